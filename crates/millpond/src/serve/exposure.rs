//! Says loudly who can reach the node, since nobody has to say who they are.

use std::net::SocketAddr;

/// Warns when other machines can connect, or cannot though they are told to.
pub(crate) fn warn(kafka: SocketAddr, http: SocketAddr, advertise: Option<&str>) {
    for (what, addr) in [("Kafka clients", kafka), ("HTTP", http)] {
        if !addr.ip().is_loopback() {
            tracing::warn!(
                "NO AUTHENTICATION: {what} are served on {addr}, which other machines can reach. Everybody who can \
                 connect can read, write and delete everything. Keep this port behind a firewall, or listen on 127.0.0.1."
            );
        }
    }
    if let Some(advertise) = advertise
        && kafka.ip().is_loopback()
        && !names_loopback(advertise)
    {
        tracing::warn!(
            "clients are told to use {advertise}, but only {kafka} is listened on: other machines will not get through. \
             Listen on an address that they can reach."
        );
    }
}

fn names_loopback(address: &str) -> bool {
    address.starts_with("localhost") || address.starts_with("127.") || address.starts_with("[::1]")
}
