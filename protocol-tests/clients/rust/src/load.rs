//! The bench's load, with librdkafka because it takes little of the processor itself.
//!
//! `rdkafka_load MODE BOOTSTRAP TOPIC [name=value]…` prints one line of JSON. Modes:
//! - `produce` `count= size= batch= codec= partitions= seconds= rate=`: sends records of `size` bytes in batches of at most `batch` bytes
//!   (`batch=1`: one record each), `rate` a second if given, ends after `count` records or `seconds`, and waits for every acknowledgement
//! - `rows` `count= partitions= first=`: sends auction bids as JSON (about 245 bytes, event time 1 ms a row), from number `first` on
//! - `consume` `count= seconds=`: reads from the beginning until `count` records came
//! - `paced` `rate= seconds= out=`: sends `rate` records a second for `seconds` (of 1 KB, or JSON rows when `out` names the topic where
//!   results appear), and measures until the acknowledgement and until a consumer has the record, or its result

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

type Failure = Box<dyn std::error::Error>;

const FLUSH_LIMIT: Duration = Duration::from_secs(120);
/// A paced run waits so long for records that are still on their way.
const STRAGGLER_LIMIT: Duration = Duration::from_secs(1);

struct Options {
    bootstrap: String,
    topic: String,
    values: HashMap<String, String>,
}

impl Options {
    fn number(&self, name: &str, default: u64) -> Result<u64, Failure> {
        self.values.get(name).map_or(Ok(default), |text| text.parse().map_err(|_| format!("{name}={text} is not a number").into()))
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.values.get(name).map_or(default, String::as_str)
    }
}

/// Notes acknowledgements: how many, the first error, and (when asked) how long each took.
#[derive(Clone)]
struct Acknowledgements {
    began: Instant,
    count: Arc<AtomicU64>,
    error: Arc<Mutex<Option<KafkaError>>>,
    latencies: Option<Arc<Mutex<Vec<u64>>>>,
}

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    /// Nanoseconds from `began` to when the record was given to librdkafka.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, sent_ns: usize) {
        match result {
            Ok(_) => {
                self.count.fetch_add(1, Ordering::Relaxed);
                if let Some(latencies) = &self.latencies {
                    let taken = self.began.elapsed().as_nanos() as u64 - sent_ns as u64;
                    latencies.lock().expect("no callback panics").push(taken);
                }
            }
            Err((error, _)) => {
                self.error.lock().expect("no callback panics").get_or_insert_with(|| error.clone());
            }
        }
    }
}

impl Acknowledgements {
    fn new(with_latencies: bool) -> Self {
        let latencies = with_latencies.then(|| Arc::new(Mutex::new(Vec::new())));
        Acknowledgements { began: Instant::now(), count: Arc::default(), error: Arc::default(), latencies }
    }

    fn finish(&self, producer: &BaseProducer<Self>, sent: u64) -> Result<(), Failure> {
        producer.flush(FLUSH_LIMIT)?;
        if let Some(error) = self.error.lock().expect("no callback panics").take() {
            return Err(format!("a record was not acknowledged: {error}").into());
        }
        let acknowledged = self.count.load(Ordering::Relaxed);
        if acknowledged != sent { Err(format!("{acknowledged} of {sent} records were acknowledged").into()) } else { Ok(()) }
    }
}

/// Sends one record; waits while librdkafka's queue is full.
fn send(producer: &BaseProducer<Acknowledgements>, topic: &str, partition: i32, value: &[u8], sent_ns: usize) -> Result<(), Failure> {
    let mut record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, sent_ns).partition(partition).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                record = returned;
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Payloads of words and digits, so that a compression has something to do (lz4 makes about half of them).
fn payloads(size: usize) -> Vec<Vec<u8>> {
    let words = ["flight", "carrier", "delay", "gate", "origin", "destination", "minutes", "arrival"];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut made = Vec::new();
    for _ in 0..64 {
        let mut text = Vec::with_capacity(size + 32);
        while text.len() < size {
            let number = next();
            text.extend_from_slice(words[number as usize % words.len()].as_bytes());
            text.extend_from_slice(format!("={:06x};", number >> 40).as_bytes());
        }
        text.truncate(size);
        made.push(text);
    }
    made
}

/// An auction bid with the columns of the Nexmark benchmark.
fn bid(number: u64, sent_ns: u64, out: &mut Vec<u8>) {
    use std::io::Write;
    out.clear();
    let (seconds, milliseconds) = (number / 1000 % 86_400, number % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(
        out,
        "{{\"auction\":{},\"bidder\":{},\"price\":{},\"channel\":\"channel-{}\",\"url\":\"https://www.nexmark.example/item.htm?query=1&channel_id={}\",\
         \"ts\":\"2026-01-01T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}\",\"sent\":{sent_ns},\"extra\":\"{:032x}\"}}",
        1000 + number % 997,
        2000 + number * 7 % 9973,
        number * 31 % 10_000,
        number % 10,
        number % 100_000,
        u128::from(number) * 0x9e37_79b9_7f4a_7c15_f39c_0c2b,
    )
    .expect("writing to memory");
}

fn producer(options: &Options, acknowledgements: &Acknowledgements) -> Result<BaseProducer<Acknowledgements>, Failure> {
    let batch = options.number("batch", 65_536)?;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.bootstrap)
        .set("acks", "all")
        .set("compression.type", options.text("codec", "none"))
        .set("linger.ms", options.text("linger", "5"))
        .set("message.timeout.ms", "120000")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "262144");
    if batch == 1 {
        config.set("batch.num.messages", "1").set("linger.ms", "0");
    } else {
        config.set("batch.size", batch.to_string());
    }
    Ok(config.create_with_context(acknowledgements.clone())?)
}

/// Waits until the time of record `number` at `rate` a second has come, serving callbacks.
fn pace(producer: &BaseProducer<Acknowledgements>, began: Instant, number: u64, rate: u64) {
    let due = Duration::from_nanos(number * 1_000_000_000 / rate);
    while began.elapsed() < due {
        producer.poll(Duration::ZERO);
        let left = due.saturating_sub(began.elapsed());
        if left > Duration::from_micros(150) {
            std::thread::sleep(left.min(Duration::from_micros(500)) - Duration::from_micros(100));
        }
    }
}

fn produce(options: &Options, rows: bool) -> Result<serde_json::Value, Failure> {
    let (count, size, batch) = (options.number("count", 1_000_000)?, options.number("size", 1024)?, options.number("batch", 65_536)?);
    let first = options.number("first", 0)?;
    let (partitions, rate) = (options.number("partitions", 1)?, options.number("rate", 0)?);
    let limit = Duration::from_secs(options.number("seconds", 60)?);
    let acknowledgements = Acknowledgements::new(false);
    let producer = producer(options, &acknowledgements)?;
    let (payloads, mut row) = (payloads(size as usize), Vec::new());
    // A whole batch goes to one partition, as a sticky partitioner does it.
    let records_a_batch = (batch / (size + 10)).max(1);
    let began = Instant::now();
    let (mut sent, mut bytes) = (0, 0);
    while sent < count && began.elapsed() < limit {
        let partition = (sent / records_a_batch % partitions) as i32;
        if rate > 0 {
            pace(&producer, began, sent, rate);
        }
        if rows {
            bid(first + sent, 0, &mut row);
        }
        let value: &[u8] = if rows { &row } else { &payloads[sent as usize % payloads.len()] };
        send(&producer, &options.topic, partition, value, 0)?;
        bytes += value.len();
        sent += 1;
        if sent % 64 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    acknowledgements.finish(&producer, sent)?;
    Ok(serde_json::json!({"records": sent, "bytes": bytes, "seconds": began.elapsed().as_secs_f64()}))
}

/// A consumer at the beginning (or end) of every partition of a topic.
fn consumer(bootstrap: &str, topic: &str, from: Offset) -> Result<BaseConsumer, Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100")
        .set("check.crcs", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(20))?;
    let mut places = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        places.add_partition_offset(topic, partition.id(), from)?;
    }
    consumer.assign(&places)?;
    Ok(consumer)
}

fn consume(options: &Options) -> Result<serde_json::Value, Failure> {
    let (count, limit) = (options.number("count", 1)?, Duration::from_secs(options.number("seconds", 60)?));
    let consumer = consumer(&options.bootstrap, &options.topic, Offset::Beginning)?;
    let began = Instant::now();
    let (mut records, mut bytes) = (0, 0);
    while records < count && began.elapsed() < limit {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bytes += message?.payload_len();
            records += 1;
        }
    }
    Ok(serde_json::json!({"records": records, "bytes": bytes, "seconds": began.elapsed().as_secs_f64()}))
}

/// Milliseconds at the usual percentiles.
fn percentiles(mut latencies: Vec<u64>) -> serde_json::Value {
    latencies.sort_unstable();
    let at = |share: f64| latencies.get(((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1))).map(|ns| *ns as f64 / 1e6);
    serde_json::json!({"count": latencies.len(), "p50": at(0.50), "p99": at(0.99), "p999": at(0.999), "max": at(1.0)})
}

fn paced(options: &Options) -> Result<serde_json::Value, Failure> {
    let (rate, seconds) = (options.number("rate", 10_000)?, options.number("seconds", 10)?);
    let results = options.values.get("out").cloned();
    let acknowledgements = Acknowledgements::new(true);
    let began = acknowledgements.began;
    let producer = producer(options, &acknowledgements)?;
    let reader = consumer(&options.bootstrap, results.as_ref().unwrap_or(&options.topic), Offset::End)?;
    let sending = Arc::new(AtomicBool::new(true));
    let watching = std::thread::spawn({
        let (sending, rows) = (Arc::clone(&sending), results.is_some());
        move || -> Result<Vec<u64>, String> {
            let (mut latencies, mut stragglers_until) = (Vec::new(), None);
            loop {
                match reader.poll(Duration::from_millis(50)) {
                    Some(message) => {
                        let message = message.map_err(|error| error.to_string())?;
                        let value = message.payload().unwrap_or_default();
                        let sent_ns = sent_at(value, rows).ok_or_else(|| format!("no time in {}", String::from_utf8_lossy(value)))?;
                        latencies.push(began.elapsed().as_nanos() as u64 - sent_ns);
                    }
                    None if !sending.load(Ordering::Relaxed) => {
                        if Instant::now() > *stragglers_until.get_or_insert_with(|| Instant::now() + STRAGGLER_LIMIT) {
                            return Ok(latencies);
                        }
                    }
                    None => {}
                }
            }
        }
    });
    // The consumer finds the ends first.
    std::thread::sleep(Duration::from_secs(1));
    let payload = payloads(1024).swap_remove(0);
    let (start, mut value) = (Instant::now(), Vec::new());
    let total = rate * seconds;
    for number in 0..total {
        pace(&producer, start, number, rate);
        let sent_ns = began.elapsed().as_nanos() as u64;
        if results.is_some() {
            bid(number, sent_ns, &mut value);
        } else {
            value.clear();
            value.extend_from_slice(&sent_ns.to_le_bytes());
            value.extend_from_slice(&payload[8..]);
        }
        send(&producer, &options.topic, 0, &value, sent_ns as usize)?;
    }
    acknowledgements.finish(&producer, total)?;
    let taken = start.elapsed().as_secs_f64();
    sending.store(false, Ordering::Relaxed);
    let end_to_end = watching.join().map_err(|_| "the reader's thread panicked")??;
    let acknowledged = acknowledgements.latencies.as_ref().map(|latencies| std::mem::take(&mut *latencies.lock().expect("no callback panics")));
    Ok(serde_json::json!({"records": total, "bytes": total * 1024, "seconds": taken,
        "produce_ms": percentiles(acknowledged.unwrap_or_default()), "end_to_end_ms": percentiles(end_to_end)}))
}

/// When a record was sent: its first eight bytes, or the field `sent` of a row.
fn sent_at(value: &[u8], rows: bool) -> Option<u64> {
    if rows {
        let text = std::str::from_utf8(value).ok()?;
        let digits = text.split_once("\"sent\":")?.1;
        return digits[..digits.find(|each: char| !each.is_ascii_digit())?].parse().ok();
    }
    Some(u64::from_le_bytes(value.get(..8)?.try_into().ok()?))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, bootstrap, topic, settings @ ..] = &arguments[..] else { return Err("usage: rdkafka_load MODE BOOTSTRAP TOPIC [name=value]…".into()) };
    let mut values = HashMap::new();
    for setting in settings {
        let (name, value) = setting.split_once('=').ok_or_else(|| format!("{setting} is not name=value"))?;
        values.insert(name.to_owned(), value.to_owned());
    }
    let options = Options { bootstrap: bootstrap.clone(), topic: topic.clone(), values };
    let result = match mode.as_str() {
        "produce" => produce(&options, false)?,
        "rows" => produce(&options, true)?,
        "consume" => consume(&options)?,
        "paced" => paced(&options)?,
        unknown => return Err(format!("there is no mode {unknown}").into()),
    };
    println!("{result}");
    Ok(())
}
