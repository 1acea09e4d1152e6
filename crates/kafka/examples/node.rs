//! A node without streams: `cargo run --release -p millpond-kafka --example node -- DATA-FOLDER 127.0.0.1:9092`.
//!
//! For trying clients against this crate alone, and for measuring it.

use std::error::Error;

use millpond_broker::{Broker, BrokerOptions};
use millpond_kafka::{Server, ServerOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(data), Some(listen)) = (arguments.next(), arguments.next()) else {
        return Err("a data folder and HOST:PORT are expected".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let broker = Broker::open(BrokerOptions::new(data))?;
    runtime.block_on(async {
        let server = Server::bind(broker.clone(), ServerOptions { listen, advertise: None }).await?;
        eprintln!("listening on {}", server.local_addr());
        server.run(async { drop(tokio::signal::ctrl_c().await) }).await;
        Ok(broker.shutdown().await?)
    })
}
