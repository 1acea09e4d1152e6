//! Producers that wait for each answer before they send again, as many as wanted, for the bench.
//!
//!     cargo run --release -p millpond-kafka --example closed_loop -- ADDRESS TOPIC NAME=NUMBER …
//!
//! `connections` producers (64) each send one batch of `bytes` (1024) to one partition, wait until it is durable, and go on with the
//! next of `partitions` (1), for `seconds` (10). Prints one line of JSON: requests, seconds, bytes, percentiles of the latency in
//! milliseconds, and beside them what one fdatasync of as many bytes takes in `folder`, if that is given.
//!
//! The client costs next to nothing: it makes the request once, and then only changes partition and correlation id.

#![allow(clippy::print_stdout)] // Its figures are for bench/.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use millpond_records::{BatchBuilder, BatchOptions};

const VERSION: i16 = 9;
/// Of the header, the length included.
const CORRELATION_ID_AT: usize = 8;
const FDATASYNCS: usize = 200;

struct Options {
    address: String,
    topic: String,
    connections: usize,
    partitions: u64,
    bytes: usize,
    seconds: f64,
    folder: Option<PathBuf>,
}

fn main() {
    let options = Arc::new(options());
    let begin = Arc::new(Barrier::new(options.connections + 1));
    let next = Arc::new(AtomicU64::new(0));
    let producers: Vec<_> = (0..options.connections)
        .map(|_| {
            let (options, begin, next) = (options.clone(), begin.clone(), next.clone());
            thread::spawn(move || produce(&options, &begin, &next))
        })
        .collect();
    begin.wait();
    let began = Instant::now();
    let mut latencies: Vec<u32> = producers.into_iter().flat_map(|producer| producer.join().unwrap()).collect();
    let seconds = began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let (requests, bytes) = (latencies.len(), latencies.len() * options.bytes);
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| percentile(&latencies, share));
    let [sync_p50, sync_p99] = match &options.folder {
        None => [0.0; 2],
        Some(folder) => {
            let syncs = fdatasyncs(folder, options.bytes);
            [0.5, 0.99].map(|share| percentile(&syncs, share))
        }
    };
    println!(
        "{{\"requests\": {requests}, \"seconds\": {seconds:.3}, \"bytes\": {bytes}, \"p50_ms\": {p50:.3}, \"p99_ms\": {p99:.3}, \
         \"p999_ms\": {p999:.3}, \"fdatasync_p50_ms\": {sync_p50:.3}, \"fdatasync_p99_ms\": {sync_p99:.3}}}"
    );
}

fn options() -> Options {
    let mut arguments = std::env::args().skip(1);
    let (address, topic) = (arguments.next().expect("ADDRESS"), arguments.next().expect("TOPIC"));
    let mut options =
        Options { address, topic, connections: 64, partitions: 1, bytes: 1024, seconds: 10.0, folder: None };
    for argument in arguments {
        let (name, value) = argument.split_once('=').expect("NAME=VALUE");
        match name {
            "connections" => options.connections = value.parse().unwrap(),
            "partitions" => options.partitions = value.parse().unwrap(),
            "bytes" => options.bytes = value.parse().unwrap(),
            "seconds" => options.seconds = value.parse().unwrap(),
            "folder" => options.folder = Some(value.into()),
            _ => panic!("there is no option {name}"),
        }
    }
    options
}

/// In microseconds; of those, one in milliseconds.
fn percentile(sorted: &[u32], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}

fn produce(options: &Options, begin: &Barrier, next: &AtomicU64) -> Vec<u32> {
    let mut socket = TcpStream::connect(&options.address).unwrap();
    socket.set_nodelay(true).unwrap();
    let batch = batch(options.bytes);
    let mut latencies = Vec::new();
    let mut answer = Vec::new();
    let (mut request, partition_at) = request(&options.topic, &batch);
    begin.wait();
    let end = Instant::now() + Duration::from_secs_f64(options.seconds);
    for correlation_id in 0i32.. {
        let began = Instant::now();
        if began >= end {
            break;
        }
        let partition = (next.fetch_add(1, Ordering::Relaxed) % options.partitions) as u32;
        request[CORRELATION_ID_AT..CORRELATION_ID_AT + 4].copy_from_slice(&correlation_id.to_be_bytes());
        request[partition_at..partition_at + 4].copy_from_slice(&partition.to_be_bytes());
        socket.write_all(&request).unwrap();
        let mut len = [0; 4];
        socket.read_exact(&mut len).unwrap();
        answer.resize(u32::from_be_bytes(len) as usize, 0);
        socket.read_exact(&mut answer).unwrap();
        check(&answer, correlation_id);
        latencies.push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    latencies
}

/// One record, so that the batch has about so many bytes.
fn batch(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(1_700_000_000_000, None, Some(&vec![b'v'; bytes.saturating_sub(80)]), &[]);
    builder.build().into()
}

/// A request, and where in it the partition stands.
fn request(topic: &str, batch: &Bytes) -> (Vec<u8>, usize) {
    let (one, other) = (request_to(topic, 0, batch), request_to(topic, -1, batch));
    let partition_at = one.iter().zip(&other).position(|(one, other)| one != other).expect("they differ");
    (one, partition_at)
}

fn request_to(topic: &str, partition: i32, batch: &Bytes) -> Vec<u8> {
    let partition = PartitionProduceData::default().with_index(partition).with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::Produce as i16)
        .with_request_api_version(VERSION)
        .with_client_id(Some(StrBytes::from_static_str("closed-loop")));
    let mut body = BytesMut::new();
    header.encode(&mut body, ApiKey::Produce.request_header_version(VERSION)).unwrap();
    request.encode(&mut body, VERSION).unwrap();
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

fn check(answer: &[u8], correlation_id: i32) {
    let mut answer = Bytes::copy_from_slice(answer);
    let header = ResponseHeader::decode(&mut answer, ApiKey::Produce.response_header_version(VERSION)).unwrap();
    assert_eq!(header.correlation_id, correlation_id);
    let response = ProduceResponse::decode(&mut answer, VERSION).unwrap();
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0, "{:?}", partition.error_message);
}

/// Appends and syncs alone, in microseconds.
fn fdatasyncs(folder: &std::path::Path, bytes: usize) -> Vec<u32> {
    let path = folder.join("closed-loop-fdatasync");
    let mut file = File::create(&path).unwrap();
    let payload = vec![b'v'; bytes];
    let mut taken: Vec<u32> = (0..FDATASYNCS)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&payload).unwrap();
            file.sync_data().unwrap();
            u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX)
        })
        .collect();
    std::fs::remove_file(&path).unwrap();
    taken.sort_unstable();
    taken
}
