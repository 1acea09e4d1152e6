//! The shared list of steps with rdkafka (librdkafka's Rust binding). See protocol-tests/README.md.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), Failure>;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PER_CODEC: usize = 60;
const LIMIT: Duration = Duration::from_secs(30);

macro_rules! check {
    ($condition:expr, $($message:tt)*) => { if !$condition { return Err(format!($($message)*).into()); } };
}

/// Keeps the first delivery error of a producer.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Option<KafkaError>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        if let Err((error, _)) = result {
            self.0.lock().expect("no delivery callback panics").get_or_insert_with(|| error.clone());
        }
    }
}

/// A record to send.
#[derive(Default)]
struct Wanted {
    partition: Option<i32>,
    key: Option<String>,
    value: String,
    headers: Vec<(&'static str, Option<String>)>,
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) -> Outcome {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        check!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A group member on a thread of its own.
struct Member {
    consumer: Arc<BaseConsumer>,
    values: Arc<Mutex<Vec<String>>>,
    running: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Member {
    fn assigned(&self) -> usize {
        self.consumer.assignment().map_or(0, |list| list.count())
    }

    fn count(&self) -> usize {
        self.values.lock().expect("no reader panics").len()
    }

    fn check_values(&self, name: &str, count: usize) -> Outcome {
        let mut came = self.values.lock().expect("no reader panics").clone();
        let mut expected: Vec<String> = (0..count).map(|number| format!("{name}{number}")).collect();
        came.sort();
        expected.sort();
        check!(came == expected, "{count} records {name}… were sent, and came {came:?}");
        Ok(())
    }

    fn clear(&self) {
        self.values.lock().expect("no reader panics").clear();
    }

    fn commit(&self) -> Outcome {
        Ok(self.consumer.commit_consumer_state(CommitMode::Sync)?)
    }

    fn leave(self) -> Outcome {
        self.running.store(false, Ordering::Relaxed);
        self.thread.join().map_err(|_| "a member's thread panicked")?;
        drop(self.consumer);
        Ok(())
    }
}

struct Client {
    bootstrap: String,
    prefix: String,
    main: String,
    admin: AdminClient<DefaultClientContext>,
    first: Option<Member>,
}

impl Client {
    fn topic(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    fn config(&self, settings: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        settings.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config
    }

    fn send(&self, topic: &str, settings: &[(&str, &str)], records: impl IntoIterator<Item = Wanted>) -> Outcome {
        let deliveries = Deliveries::default();
        let mut config = self.config(&[("acks", "all"), ("message.timeout.ms", "20000")]);
        settings.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        let producer: BaseProducer<Deliveries> = config.create_with_context(deliveries.clone())?;
        for record in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header { key, value: value.as_ref() });
            }
            let mut wanted = BaseRecord::<String, String>::to(topic).payload(&record.value).headers(headers);
            wanted.key = record.key.as_ref();
            wanted.partition = record.partition;
            producer.send(wanted).map_err(|(error, _)| error)?;
            producer.poll(Duration::ZERO);
        }
        producer.flush(LIMIT)?;
        match deliveries.0.lock().expect("no delivery callback panics").take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn post(&self, name: &str, count: usize) -> Outcome {
        let records = (0..count).map(|number| Wanted { partition: Some(number as i32 % 4), value: format!("{name}{number}"), ..Wanted::default() });
        self.send(&self.topic("group"), &[], records)
    }

    fn reader(&self) -> Result<BaseConsumer, Failure> {
        Ok(self.config(&[("group.id", &self.topic("reader")), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")]).create()?)
    }

    /// Reads a topic from its beginning until `count` records came, and a little longer for surplus ones.
    fn read<T>(&self, topic: &str, count: usize, mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
        let reader = self.reader()?;
        let mut places = TopicPartitionList::new();
        for partition in reader.fetch_metadata(Some(topic), LIMIT)?.topics()[0].partitions() {
            places.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
        reader.assign(&places)?;
        let (mut got, mut deadline) = (Vec::new(), Instant::now() + LIMIT);
        while Instant::now() < deadline {
            if let Some(message) = reader.poll(Duration::from_millis(200)) {
                got.push(take(&message?)?);
                if got.len() == count {
                    deadline = deadline.min(Instant::now() + Duration::from_millis(300));
                }
            }
        }
        check!(got.len() == count, "{} records of {topic} instead of {count}", got.len());
        Ok(got)
    }

    fn create_topic(&mut self) -> Outcome {
        let (group, idempotent) = (self.topic("group"), self.topic("idem"));
        let wanted = [
            NewTopic::new(&self.main, 4, TopicReplication::Fixed(1)).set("retention.ms", "86400000"),
            NewTopic::new(&group, 4, TopicReplication::Fixed(1)),
            NewTopic::new(&idempotent, 1, TopicReplication::Fixed(1)),
        ];
        for made in block_on(self.admin.create_topics(&wanted, &AdminOptions::new()))? {
            made.map_err(|(topic, code)| format!("{topic}: {code}"))?;
        }
        let again = block_on(self.admin.create_topics(&wanted[..1], &AdminOptions::new()))?;
        check!(matches!(&again[0], Err((_, RDKafkaErrorCode::TopicAlreadyExists))), "the second creation gave {:?}", again[0]);
        let reader = self.reader()?;
        wait("the topic has 4 partitions", || {
            reader.fetch_metadata(Some(&self.main), LIMIT).is_ok_and(|found| found.topics()[0].partitions().len() == 4)
        })
    }

    fn produce(&mut self, codec: &'static str) -> Outcome {
        let records = (0..PER_CODEC).map(|number| Wanted {
            partition: None,
            key: Some(format!("{codec}-{number}")),
            value: format!("{codec} value {number} {}", "abcdefgh".repeat(25)),
            headers: vec![("codec", Some(codec.to_owned())), ("n", Some(number.to_string())), ("none", None)],
        });
        self.send(&self.main, &[("compression.type", codec), ("linger.ms", "20")], records)
    }

    fn consume_all(&mut self) -> Outcome {
        let (mut seen, mut last) = (HashSet::new(), BTreeMap::new());
        self.read(&self.main, PER_CODEC * CODECS.len(), |message| {
            let key = String::from_utf8(message.key().unwrap_or_default().to_vec())?;
            let (codec, number) = key.split_once('-').ok_or("a key without number")?;
            let headers: Vec<_> = message.headers().ok_or("no headers")?.iter().map(|each| (each.key.to_owned(), each.value.map(<[u8]>::to_vec))).collect();
            let expected = vec![("codec".to_owned(), Some(codec.into())), ("n".to_owned(), Some(number.into())), ("none".to_owned(), None)];
            check!(headers == expected, "headers of {key}: {headers:?}");
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            check!(value.starts_with(&format!("{codec} value {number} abc")), "value of {key}");
            check!(seen.insert(key.clone()), "{key} came twice");
            let number: usize = number.parse()?;
            let before = last.insert((message.partition(), codec.to_owned()), number);
            check!(before.is_none_or(|before| before < number), "order of {codec} in partition {}", message.partition());
            Ok(())
        })?;
        Ok(())
    }

    fn idempotent(&mut self) -> Outcome {
        let records = (0..500).map(|number| Wanted { partition: Some(0), value: number.to_string(), ..Wanted::default() });
        self.send(&self.topic("idem"), &[("enable.idempotence", "true"), ("batch.num.messages", "7"), ("linger.ms", "0")], records)?;
        let values = self.read(&self.topic("idem"), 500, |message| Ok(String::from_utf8(message.payload().unwrap_or_default().to_vec())?.parse::<usize>()?))?;
        check!(values.iter().copied().eq(0..500), "the records are not 0 to 499 in order");
        Ok(())
    }

    fn offsets(&mut self) -> Outcome {
        let reader = self.reader()?;
        let (mut low_sum, mut high_sum) = (0, 0);
        for partition in 0..4 {
            let (low, high) = reader.fetch_watermarks(&self.main, partition, LIMIT)?;
            (low_sum, high_sum) = (low_sum + low, high_sum + high);
        }
        check!(low_sum == 0 && high_sum == (PER_CODEC * CODECS.len()) as i64, "offsets {low_sum} to {high_sum}");
        let at = |time_ms: i64| -> Result<Vec<Offset>, Failure> {
            let mut asked = TopicPartitionList::new();
            for partition in 0..4 {
                asked.add_partition_offset(&self.main, partition, Offset::Offset(time_ms))?;
            }
            Ok(reader.offsets_for_times(asked, LIMIT)?.elements().iter().map(|each| each.offset()).collect())
        };
        check!(at(1000)? == [Offset::Offset(0); 4], "offsets for the year 1970: {:?}", at(1000)?);
        let tomorrow = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64 + 86_400_000;
        check!(at(tomorrow)? == [Offset::End; 4], "offsets for tomorrow: {:?}", at(tomorrow)?);
        Ok(())
    }

    fn join(&self, strategy: &str) -> Result<Member, Failure> {
        let settings = [
            ("group.id", &*self.topic("members")), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest"), ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"), ("partition.assignment.strategy", strategy),
        ];
        let consumer: Arc<BaseConsumer> = Arc::new(self.config(&settings).create()?);
        consumer.subscribe(&[&self.topic("group")])?;
        let (values, running) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(true)));
        let thread = std::thread::spawn({
            let (consumer, values, running) = (Arc::clone(&consumer), Arc::clone(&values), Arc::clone(&running));
            move || {
                while running.load(Ordering::Relaxed) {
                    match consumer.poll(Duration::from_millis(100)) {
                        Some(Ok(message)) => values.lock().expect("no reader panics").push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()),
                        Some(Err(error)) => eprintln!("member: {error}"), // the broker is away for a moment
                        None => {}
                    }
                }
            }
        });
        Ok(Member { consumer, values, running, thread })
    }

    fn group_of_two(&mut self) -> Outcome {
        let first = self.join("range")?;
        wait("the first member owns 4 partitions", || first.assigned() == 4)?;
        let second = self.join("range")?;
        wait("each member owns 2 partitions", || first.assigned() == 2 && second.assigned() == 2)?;
        self.post("a", 100)?;
        wait("the members got 100 records", || first.count() + second.count() >= 100)?;
        check!(first.count() == 50 && second.count() == 50, "the members got {} and {}", first.count(), second.count());
        first.commit()?;
        second.commit()?;
        second.leave()?;
        wait("the first member owns all again after the second left", || first.assigned() == 4)?;
        first.clear();
        self.post("b", 20)?;
        wait("the first member got 20 more", || first.count() >= 20)?;
        first.check_values("b", 20)?;
        self.first = Some(first);
        Ok(())
    }

    fn commit(&mut self) -> Outcome {
        self.first.as_ref().ok_or("there is no group")?.commit()?;
        let reader: BaseConsumer = self.config(&[("group.id", &self.topic("members"))]).create()?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topic("group"), 0, 3);
        let committed = reader.committed_offsets(asked, LIMIT)?;
        check!(committed.elements().iter().all(|each| each.offset() == Offset::Offset(30)), "committed {committed:?}");
        Ok(())
    }

    fn restart_resume(&mut self) -> Outcome {
        let first = self.first.take().ok_or("there is no group")?;
        first.clear();
        println!("REQUEST restart");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        check!(answer.trim() == "restarted", "the runner could not restart the broker");
        self.post("c", 20)?;
        wait("the member got 20 records after the restart", || first.count() >= 20)?;
        first.check_values("c", 20)?;
        first.commit()?;
        first.leave()?;
        let third = self.join("cooperative-sticky")?;
        wait("a new member owns all partitions", || third.assigned() == 4)?;
        self.post("d", 4)?;
        wait("the new member got 4 records", || third.count() >= 4)?;
        std::thread::sleep(Duration::from_millis(300));
        third.check_values("d", 4)?;
        third.leave()
    }

    fn described(&self, name: &str) -> Result<Option<String>, Failure> {
        let found = block_on(self.admin.describe_configs([&ResourceSpecifier::Topic(&self.main)], &AdminOptions::new()))?;
        let resource = found.into_iter().next().ok_or("no answer")?.map_err(|code| code.to_string())?;
        Ok(resource.get(name).and_then(|entry| entry.value.clone()))
    }

    fn configs(&mut self) -> Outcome {
        check!(self.described("retention.ms")?.as_deref() == Some("86400000"), "retention.ms as created");
        check!(self.described("cleanup.policy")?.as_deref() == Some("delete"), "cleanup.policy's default");
        let main = self.main.clone();
        let change = |value: &'static str| AlterConfig::new(ResourceSpecifier::Topic(&main)).set("retention.ms", value);
        let changed = block_on(self.admin.alter_configs([&change("3600000")], &AdminOptions::new()))?;
        check!(changed[0].is_ok(), "the change gave {:?}", changed[0]);
        wait("retention.ms shows the change", || self.described("retention.ms").is_ok_and(|value| value.as_deref() == Some("3600000")))?;
        // The binding does not hand on this answer's error for a resource, so the effect is what counts.
        let _ = block_on(self.admin.alter_configs([&change("soon")], &AdminOptions::new()))?;
        check!(self.described("retention.ms")?.as_deref() == Some("3600000"), "retention.ms=soon was accepted");
        Ok(())
    }

    fn partitions(&mut self) -> Outcome {
        let made = block_on(self.admin.create_partitions(&[NewPartitions::new(&self.main, 6)], &AdminOptions::new()))?;
        check!(made[0].is_ok(), "the new partitions gave {:?}", made[0]);
        let reader = self.reader()?;
        wait("6 partitions are listed", || reader.fetch_metadata(Some(&self.main), LIMIT).is_ok_and(|found| found.topics()[0].partitions().len() == 6))?;
        self.send(&self.main, &[], [Wanted { partition: Some(5), value: "in the new one".to_owned(), ..Wanted::default() }])
    }

    fn groups(&mut self) -> Outcome {
        let (reader, group) = (self.reader()?, self.topic("members"));
        let listed = reader.fetch_group_list(Some(&group), LIMIT)?;
        check!(listed.groups().first().is_some_and(|found| found.name() == group && found.state() == "Empty"), "the group is not listed as empty");
        let deleted = block_on(self.admin.delete_groups(&[&group], &AdminOptions::new()))?;
        check!(deleted[0].is_ok(), "the deletion gave {:?}", deleted[0]);
        let listed = reader.fetch_group_list(None, LIMIT)?;
        check!(listed.groups().iter().all(|found| found.name() != group), "the group is still listed");
        Ok(())
    }

    fn delete_records(&mut self) -> Outcome {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(&self.main, 0, Offset::Offset(5))?;
        let deleted = block_on(self.admin.delete_records(&wanted, &AdminOptions::new()))?;
        check!(deleted.elements()[0].error().is_ok(), "the deletion gave {deleted:?}");
        let (low, _) = self.reader()?.fetch_watermarks(&self.main, 0, LIMIT)?;
        check!(low == 5, "the log starts at {low}");
        Ok(())
    }

    fn delete_topic(&mut self) -> Outcome {
        let deleted = block_on(self.admin.delete_topics(&[&self.main], &AdminOptions::new()))?;
        check!(deleted[0].is_ok(), "the deletion gave {:?}", deleted[0]);
        let reader = self.reader()?;
        wait("the topic is gone", || reader.fetch_metadata(None, LIMIT).is_ok_and(|found| found.topics().iter().all(|topic| topic.name() != self.main)))
    }

    fn rows(&self, numbers: std::ops::Range<u32>) -> Outcome {
        let records = numbers.map(|number| Wanted {
            partition: Some(0),
            value: format!(r#"{{"n":{number},"name":"row-{number}","price":{}}}"#, f64::from(number) / 2.0),
            ..Wanted::default()
        });
        self.send(&self.topic("events"), &[], records)
    }

    fn statement(&self, name: &str, sql: String) -> Outcome {
        let headers = vec![("from", Some("rdkafka".to_owned()))];
        self.send("_millpond_sql", &[], [Wanted { partition: Some(0), key: Some(format!("{}-{name}", self.prefix)), value: sql, headers }])
    }

    fn sql_register(&mut self) -> Outcome {
        self.rows(0..100)?;
        let (big, events) = (self.topic("big"), self.topic("events"));
        self.statement("good", format!("CREATE MATERIALIZED STREAM {big} AS SELECT n, name FROM {events} WHERE n >= 90"))
    }

    fn sql_refused(&mut self) -> Outcome {
        let (bad, events) = (self.topic("bad"), self.topic("events"));
        let refused = self.statement("bad", format!("CREATE MATERIALIZED STREAM {bad} AS SELECT nmae FROM {events}"));
        let code = refused.as_ref().err().and_then(|error| error.downcast_ref::<KafkaError>()).and_then(KafkaError::rdkafka_error_code);
        check!(code == Some(RDKafkaErrorCode::InvalidRecord), "the wrong statement gave {refused:?}");
        Ok(())
    }

    fn answer(&self, name: &str) -> Result<String, Failure> {
        let reader = self.reader()?;
        let mut places = TopicPartitionList::new();
        places.add_partition_offset("_millpond_answers", 0, Offset::Beginning)?;
        reader.assign(&places)?;
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            let Some(message) = reader.poll(Duration::from_millis(200)) else { continue };
            let message = message?;
            if message.key() == Some(format!("{}-{name}", self.prefix).as_bytes()) {
                let copied = message.headers().is_some_and(|headers| headers.iter().any(|each| each.key == "from" && each.value == Some(b"rdkafka")));
                check!(copied, "the answer lacks the statement's header");
                return Ok(String::from_utf8(message.payload().unwrap_or_default().to_vec())?);
            }
        }
        Err(format!("no answer for {name}").into())
    }

    fn sql_answers(&mut self) -> Outcome {
        let refused: serde_json::Value = serde_json::from_str(&self.answer("bad")?)?;
        let error = &refused["error"];
        let named = error["message"].as_str().is_some_and(|text| text.contains("nmae"));
        check!(named && error["line"] == 1 && error["column"].as_i64() > Some(1), "the refusal says {refused}");
        self.statement("show", "SHOW STREAMS".to_owned())?;
        check!(self.answer("show")?.contains(&self.topic("big")), "SHOW STREAMS does not name the stream");
        Ok(())
    }

    fn sql_results(&mut self) -> Outcome {
        for to in [100, 105] {
            if to == 105 {
                self.rows(100..105)?;
            }
            let came = self.read(&self.topic("big"), to - 90, |message| Ok(String::from_utf8(message.payload().unwrap_or_default().to_vec())?))?;
            let expected: BTreeSet<String> = (90..to).map(|number| format!(r#"{{"n":{number},"name":"row-{number}"}}"#)).collect();
            check!(came.iter().cloned().collect::<BTreeSet<_>>() == expected, "the results are {came:?}");
        }
        Ok(())
    }

    fn sql_owned(&mut self) -> Outcome {
        let refused = self.send(&self.topic("big"), &[], [Wanted { partition: Some(0), value: "{}".to_owned(), ..Wanted::default() }]);
        let code = refused.as_ref().err().and_then(|error| error.downcast_ref::<KafkaError>()).and_then(KafkaError::rdkafka_error_code);
        check!(code == Some(RDKafkaErrorCode::PolicyViolation), "writing to a stream's topic gave {refused:?}");
        Ok(())
    }
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, bootstrap, prefix, mode] = &arguments[..] else { return Err("usage: rdkafka_client BOOTSTRAP PREFIX sql|nosql".into()) };
    let admin = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let mut client = Client { bootstrap: bootstrap.clone(), prefix: prefix.clone(), main: format!("{prefix}_main"), admin, first: None };
    type Step = (String, Box<dyn Fn(&mut Client) -> Outcome>);
    let step = |name: &str, run: fn(&mut Client) -> Outcome| -> Step { (name.to_owned(), Box::new(run)) };
    let mut steps = vec![step("create_topic", Client::create_topic)];
    for codec in CODECS {
        steps.push((format!("produce_{codec}"), Box::new(move |client| client.produce(codec))));
    }
    steps.extend([
        step("consume_all", Client::consume_all), step("idempotent", Client::idempotent), step("offsets", Client::offsets),
        step("group_of_two", Client::group_of_two), step("commit", Client::commit), step("restart_resume", Client::restart_resume),
        step("configs", Client::configs), step("partitions", Client::partitions), step("groups", Client::groups),
        step("delete_records", Client::delete_records), step("delete_topic", Client::delete_topic),
    ]);
    if mode == "sql" {
        steps.extend([
            step("sql_register", Client::sql_register), step("sql_refused", Client::sql_refused), step("sql_answers", Client::sql_answers),
            step("sql_results", Client::sql_results), step("sql_owned", Client::sql_owned),
        ]);
    }
    for (name, run) in steps {
        match run(&mut client) {
            Ok(()) => println!("ok {name}"),
            Err(error) => println!("FAIL {name}: {}", error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")),
        }
    }
    Ok(())
}
