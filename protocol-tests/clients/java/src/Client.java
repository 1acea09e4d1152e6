import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Scanner;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The shared list of steps with Apache Kafka's Java client. See protocol-tests/README.md. */
public final class Client {
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final int PER_CODEC = 60;
    private static final int STEP_SECONDS = 30;

    private final String bootstrap;
    private final String prefix;
    private final String main;
    private final String idempotentTopic;
    private final String groupTopic;
    private final String events;
    private final String group;
    private final Admin admin;
    private final Scanner input = new Scanner(System.in);
    private Member first;
    private KafkaProducer<String, String> writer;

    private Client(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        main = prefix + "_main";
        idempotentTopic = prefix + "_idem";
        groupTopic = prefix + "_group";
        events = prefix + "_events";
        group = prefix + "_members";
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        admin = Admin.create(settings);
    }

    interface Step {
        void run() throws Exception;
    }

    public static void main(String[] arguments) {
        Client client = new Client(arguments[0], arguments[1]);
        client.step("create_topic", client::createTopic);
        for (String codec : CODECS) {
            client.step("produce_" + codec, () -> client.produce(codec));
        }
        client.step("consume_all", client::consumeAll);
        client.step("idempotent", client::idempotent);
        client.step("offsets", client::offsets);
        client.step("group_of_two", client::groupOfTwo);
        client.step("commit", client::commit);
        client.step("restart_resume", client::restartResume);
        client.step("configs", client::configs);
        client.step("partitions", client::partitions);
        client.step("groups", client::groups);
        client.step("delete_records", client::deleteRecords);
        client.step("delete_topic", client::deleteTopic);
        if (arguments[2].equals("sql")) {
            client.step("sql_register", client::sqlRegister);
            client.step("sql_refused", client::sqlRefused);
            client.step("sql_answers", client::sqlAnswers);
            client.step("sql_results", client::sqlResults);
            client.step("sql_owned", client::sqlOwned);
        }
        System.exit(0);
    }

    private void step(String name, Step step) {
        try {
            step.run();
            System.out.println("ok " + name);
        } catch (Throwable error) {
            error.printStackTrace();
            System.out.println("FAIL " + name + ": " + error.toString().replaceAll("\\s+", " "));
        }
    }

    private static void check(boolean condition, String message) {
        if (!condition) {
            throw new AssertionError(message);
        }
    }

    private static void waitFor(BooleanSupplier condition, String what) throws InterruptedException {
        long deadline = System.nanoTime() + STEP_SECONDS * 1_000_000_000L;
        while (!condition.getAsBoolean()) {
            check(System.nanoTime() < deadline, "not within " + STEP_SECONDS + " s: " + what);
            Thread.sleep(50);
        }
    }

    private KafkaProducer<String, String> producer(String... settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("acks", "all");
        properties.put("delivery.timeout.ms", 20000);
        properties.put("request.timeout.ms", 10000);
        for (int i = 0; i < settings.length; i += 2) {
            properties.put(settings[i], settings[i + 1]);
        }
        return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
    }

    private KafkaConsumer<String, String> consumer(String groupId) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", groupId);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", false);
        properties.put("session.timeout.ms", 6000);
        properties.put("heartbeat.interval.ms", 500);
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    private void send(KafkaProducer<String, String> client, List<ProducerRecord<String, String>> records) throws Exception {
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        for (ProducerRecord<String, String> each : records) {
            answers.add(client.send(each));
        }
        client.flush();
        for (Future<RecordMetadata> answer : answers) {
            answer.get(STEP_SECONDS, TimeUnit.SECONDS);
        }
    }

    private static List<ProducerRecord<String, String>> numbered(String topic, String name, int from, int to, int partitions) {
        List<ProducerRecord<String, String>> records = new ArrayList<>();
        for (int i = from; i < to; i++) {
            records.add(new ProducerRecord<>(topic, i % partitions, null, name + i));
        }
        return records;
    }

    private List<ConsumerRecord<String, String>> read(String topic, int count) {
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        try (KafkaConsumer<String, String> reader = consumer(prefix + "_reader")) {
            List<TopicPartition> places = new ArrayList<>();
            reader.partitionsFor(topic).forEach(info -> places.add(new TopicPartition(topic, info.partition())));
            reader.assign(places);
            reader.seekToBeginning(places);
            long deadline = System.nanoTime() + STEP_SECONDS * 1_000_000_000L;
            while (got.size() < count && System.nanoTime() < deadline) {
                reader.poll(Duration.ofMillis(200)).forEach(got::add);
            }
            reader.poll(Duration.ofMillis(300)).forEach(got::add);
        }
        check(got.size() == count, got.size() + " records of " + topic + " instead of " + count);
        return got;
    }

    private void createTopic() throws Exception {
        NewTopic wanted = new NewTopic(main, 4, (short) 1).configs(Map.of("retention.ms", "86400000"));
        admin.createTopics(List.of(wanted, new NewTopic(groupTopic, 4, (short) 1), new NewTopic(idempotentTopic, 1, (short) -1)))
            .all().get();
        try {
            admin.createTopics(List.of(wanted)).all().get();
            check(false, "the second creation of a topic was not refused");
        } catch (ExecutionException error) {
            check(error.getCause() instanceof TopicExistsException, "the second creation gave " + error);
            check(error.getCause().getMessage().contains(main), "the refusal does not name the topic: " + error);
        }
        check(admin.describeTopics(List.of(main)).allTopicNames().get().get(main).partitions().size() == 4, "not 4 partitions");
        check(admin.listTopics().names().get().contains(main), "the topic is not listed");
    }

    private void produce(String codec) throws Exception {
        try (KafkaProducer<String, String> client = producer("compression.type", codec, "linger.ms", "20")) {
            List<ProducerRecord<String, String>> records = new ArrayList<>();
            for (int i = 0; i < PER_CODEC; i++) {
                List<Header> headers = List.of(header("codec", codec), header("n", "" + i), new RecordHeader("none", (byte[]) null));
                records.add(new ProducerRecord<>(main, null, codec + "-" + i, codec + " value " + i + " " + "abcdefgh".repeat(25), headers));
            }
            send(client, records);
        }
    }

    private static Header header(String key, String value) {
        return new RecordHeader(key, value.getBytes(StandardCharsets.UTF_8));
    }

    private static String text(Header header) {
        return new String(header.value(), StandardCharsets.UTF_8);
    }

    private void consumeAll() {
        Set<String> seen = new HashSet<>();
        Map<String, Integer> last = new HashMap<>();
        for (ConsumerRecord<String, String> each : read(main, PER_CODEC * CODECS.size())) {
            String[] parts = each.key().split("-");
            int number = Integer.parseInt(parts[1]);
            check(text(each.headers().lastHeader("codec")).equals(parts[0]) && text(each.headers().lastHeader("n")).equals(parts[1])
                && each.headers().lastHeader("none").value() == null, "headers of " + each.key());
            check(each.value().startsWith(parts[0] + " value " + number + " abc"), "value of " + each.key());
            check(seen.add(each.key()), each.key() + " came twice");
            Integer before = last.put(each.partition() + parts[0], number);
            check(before == null || before < number, "order in partition " + each.partition());
        }
    }

    private void idempotent() throws Exception {
        try (KafkaProducer<String, String> client = producer("enable.idempotence", "true", "linger.ms", "0", "batch.size", "100")) {
            send(client, numbered(idempotentTopic, "", 0, 500, 1));
        }
        int next = 0;
        for (ConsumerRecord<String, String> each : read(idempotentTopic, 500)) {
            check(each.value().equals("" + next++), "the records are not 0 to 499 in order");
        }
    }

    private long sumOfOffsets(OffsetSpec spec) throws Exception {
        Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
        for (int i = 0; i < 4; i++) {
            asked.put(new TopicPartition(main, i), spec);
        }
        return admin.listOffsets(asked).all().get().values().stream().mapToLong(found -> found.offset()).sum();
    }

    private void offsets() throws Exception {
        long all = PER_CODEC * CODECS.size();
        check(sumOfOffsets(OffsetSpec.earliest()) == 0, "earliest offsets");
        check(sumOfOffsets(OffsetSpec.latest()) == all, "latest offsets");
        long highest = sumOfOffsets(OffsetSpec.maxTimestamp());
        check(highest >= 0 && highest < all, "offsets of the highest timestamps sum up to " + highest);
        check(sumOfOffsets(OffsetSpec.forTimestamp(1000)) == 0, "offsets for the year 1970");
        check(sumOfOffsets(OffsetSpec.forTimestamp(System.currentTimeMillis() + 86_400_000)) == -4, "offsets for tomorrow");
    }

    /** A group member on a thread of its own. */
    private final class Member {
        final List<String> values = Collections.synchronizedList(new ArrayList<>());
        volatile Set<TopicPartition> assigned = Set.of();
        volatile boolean running = true;
        volatile boolean commitWanted;
        volatile Throwable error;
        final Thread thread = new Thread(this::run);

        Member() {
            thread.setDaemon(true);
            thread.start();
        }

        private void run() {
            try (KafkaConsumer<String, String> client = consumer(group)) {
                client.subscribe(List.of(groupTopic), new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> partitions) { }

                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> partitions) { }
                });
                while (running) {
                    client.poll(Duration.ofMillis(100)).forEach(each -> values.add(each.value()));
                    assigned = Set.copyOf(client.assignment());
                    if (commitWanted) {
                        client.commitSync();
                        commitWanted = false;
                    }
                }
            } catch (Throwable failure) {
                failure.printStackTrace();
                error = failure;
            }
        }

        void commit() throws InterruptedException {
            commitWanted = true;
            waitFor(() -> !commitWanted || error != null, "the commit");
            check(error == null, "the commit failed: " + error);
        }

        void leave() throws InterruptedException {
            running = false;
            thread.join(STEP_SECONDS * 1000);
            check(error == null, "a member ended with " + error);
        }

        boolean got(String name, int count) {
            List<String> expected = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                expected.add(name + i);
            }
            List<String> came = new ArrayList<>(values);
            Collections.sort(expected);
            Collections.sort(came);
            return came.equals(expected);
        }
    }

    private void groupOfTwo() throws Exception {
        Member one = first = new Member();
        waitFor(() -> one.assigned.size() == 4, "the first member owns 4 partitions");
        Member two = new Member();
        waitFor(() -> one.assigned.size() == 2 && two.assigned.size() == 2, "each member owns 2 partitions");
        writer = producer();
        send(writer, numbered(groupTopic, "a", 0, 100, 4));
        waitFor(() -> one.values.size() + two.values.size() >= 100, "the members got 100 records");
        check(one.values.size() == 50 && two.values.size() == 50, "the members got " + one.values.size() + " and " + two.values.size());
        one.commit();
        two.commit();
        two.leave();
        waitFor(() -> one.assigned.size() == 4, "the first member owns all again after the second left");
        one.values.clear();
        send(writer, numbered(groupTopic, "b", 0, 20, 4));
        waitFor(() -> one.values.size() >= 20, "the first member got 20 more");
        check(one.got("b", 20), "after the rebalance came " + one.values);
    }

    private void commit() throws Exception {
        first.commit();
        Map<TopicPartition, OffsetAndMetadata> committed =
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        check(committed.size() == 4 && committed.values().stream().allMatch(each -> each.offset() == 30), "committed: " + committed);
    }

    private void restartResume() throws Exception {
        first.values.clear();
        System.out.println("REQUEST restart");
        check(input.nextLine().equals("restarted"), "the runner could not restart the broker");
        send(writer, numbered(groupTopic, "c", 0, 20, 4));
        waitFor(() -> first.values.size() >= 20 || first.error != null, "the member got 20 records after the restart: " + first.values);
        check(first.got("c", 20), "after the restart came " + first.values + " " + first.error);
        first.commit();
        first.leave();
        Member third = new Member();
        waitFor(() -> third.assigned.size() == 4, "a new member owns all partitions");
        send(writer, numbered(groupTopic, "d", 0, 4, 4));
        waitFor(() -> third.values.size() >= 4, "the new member got 4 records");
        Thread.sleep(300);
        check(third.got("d", 4), "the new member got " + third.values);
        third.leave();
    }

    private Config described(ConfigResource resource) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
    }

    private void configs() throws Exception {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, main);
        Config before = described(topic);
        check(before.get("retention.ms").value().equals("86400000") && !before.get("retention.ms").isDefault(), "retention.ms as created");
        check(before.get("cleanup.policy").value().equals("delete") && before.get("cleanup.policy").isDefault(), "cleanup.policy's default");
        admin.incrementalAlterConfigs(Map.of(topic, List.of(set("retention.ms", "3600000"), set("max.message.bytes", "2000000")))).all().get();
        waitFor(() -> {
            try {
                return described(topic).get("retention.ms").value().equals("3600000");
            } catch (Exception error) {
                return false;
            }
        }, "retention.ms shows the change");
        try {
            admin.incrementalAlterConfigs(Map.of(topic, List.of(set("retention.ms", "soon")))).all().get();
            check(false, "retention.ms=soon was accepted");
        } catch (ExecutionException error) {
            check(error.getCause() instanceof InvalidConfigurationException, "retention.ms=soon gave " + error);
        }
        check(described(new ConfigResource(ConfigResource.Type.BROKER, "1")).get("num.partitions") != null, "the broker has no num.partitions");
        check(admin.describeCluster().nodes().get().size() == 1, "the cluster has not one node");
    }

    private void partitions() throws Exception {
        admin.createPartitions(Map.of(main, NewPartitions.increaseTo(6))).all().get();
        waitFor(() -> {
            try {
                return admin.describeTopics(List.of(main)).allTopicNames().get().get(main).partitions().size() == 6;
            } catch (Exception error) {
                return false;
            }
        }, "6 partitions are listed");
        try (KafkaProducer<String, String> client = producer()) {
            send(client, List.of(new ProducerRecord<>(main, 5, null, "in the new one")));
        }
    }

    private void groups() throws Exception {
        check(admin.listGroups().all().get().stream().anyMatch(each -> each.groupId().equals(group)), "the group is not listed");
        check(admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState() == GroupState.EMPTY, "the group's state");
        admin.deleteConsumerGroupOffsets(group, Set.of(new TopicPartition(groupTopic, 0))).all().get();
        check(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().size() == 3, "3 offsets are left");
        admin.alterConsumerGroupOffsets(group, Map.of(new TopicPartition(groupTopic, 0), new OffsetAndMetadata(7))).all().get();
        check(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(new TopicPartition(groupTopic, 0)).offset() == 7,
            "the altered offset");
        admin.deleteConsumerGroups(List.of(group)).all().get();
        check(admin.listGroups().all().get().stream().noneMatch(each -> each.groupId().equals(group)), "the group is still listed");
    }

    private void deleteRecords() throws Exception {
        TopicPartition place = new TopicPartition(main, 0);
        long low = admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(5))).lowWatermarks().get(place).get().lowWatermark();
        check(low == 5, "low watermark " + low);
        check(sumOfOffsets(OffsetSpec.earliest()) == 5, "the earliest offset after the deletion");
        check(!admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).isEmpty(), "no log folder is described");
    }

    private void deleteTopic() throws Exception {
        admin.deleteTopics(List.of(main)).all().get();
        waitFor(() -> {
            try {
                return !admin.listTopics().names().get().contains(main);
            } catch (Exception error) {
                return false;
            }
        }, "the topic is gone");
    }

    private static List<ProducerRecord<String, String>> rows(String topic, int from, int to) {
        List<ProducerRecord<String, String>> records = new ArrayList<>();
        for (int i = from; i < to; i++) {
            records.add(new ProducerRecord<>(topic, 0, null, "{\"n\":" + i + ",\"name\":\"row-" + i + "\",\"price\":" + i / 2.0 + "}"));
        }
        return records;
    }

    private void sendOne(ProducerRecord<String, String> each) throws Exception {
        try (KafkaProducer<String, String> client = producer()) {
            send(client, List.of(each));
        }
    }

    private void statement(String name, String sql) throws Exception {
        sendOne(new ProducerRecord<>("_millpond_sql", 0, prefix + "-" + name, sql, List.of(header("from", "java"))));
    }

    private void sqlRegister() throws Exception {
        try (KafkaProducer<String, String> client = producer()) {
            send(client, rows(events, 0, 100));
        }
        statement("good", "CREATE MATERIALIZED STREAM " + prefix + "_big AS SELECT n, name FROM " + events + " WHERE n >= 90");
    }

    private void sqlRefused() throws Exception {
        try {
            statement("bad", "CREATE MATERIALIZED STREAM " + prefix + "_bad AS SELECT nmae FROM " + events);
        } catch (ExecutionException error) {
            check(error.getCause() instanceof InvalidRecordException, "the wrong statement gave " + error);
            String message = error.getCause().getMessage();
            check(message.contains("nmae") && message.contains("line 1"), "the exception says: " + message);
            return;
        }
        check(false, "the wrong statement was accepted");
    }

    private String answer(String name) throws Exception {
        try (KafkaConsumer<String, String> reader = consumer(prefix + "_reader")) {
            TopicPartition place = new TopicPartition("_millpond_answers", 0);
            reader.assign(List.of(place));
            reader.seekToBeginning(List.of(place));
            long deadline = System.nanoTime() + STEP_SECONDS * 1_000_000_000L;
            while (System.nanoTime() < deadline) {
                for (ConsumerRecord<String, String> each : reader.poll(Duration.ofMillis(200))) {
                    if ((prefix + "-" + name).equals(each.key())) {
                        check(each.headers().lastHeader("from") != null, "the answer lacks the statement's header");
                        return each.value();
                    }
                }
            }
        }
        throw new AssertionError("no answer for " + name);
    }

    private void sqlAnswers() throws Exception {
        String refused = answer("bad");
        check(refused.contains("nmae") && refused.contains("\"column\":"), "the refusal says " + refused);
        statement("show", "SHOW STREAMS");
        check(answer("show").contains(prefix + "_big"), "SHOW STREAMS does not name the stream");
    }

    private void sqlResults() throws Exception {
        waitFor(() -> {
            try {
                return admin.listTopics().names().get().contains(prefix + "_big");
            } catch (Exception error) {
                return false;
            }
        }, "the stream's topic exists");
        checkRows(90, 100);
        try (KafkaProducer<String, String> client = producer()) {
            send(client, rows(events, 100, 105));
        }
        checkRows(90, 105);
    }

    private void checkRows(int from, int to) {
        List<String> expected = new ArrayList<>();
        for (int i = from; i < to; i++) {
            expected.add("{\"n\":" + i + ",\"name\":\"row-" + i + "\"}");
        }
        List<String> came = new ArrayList<>();
        read(prefix + "_big", to - from).forEach(each -> came.add(each.value()));
        Collections.sort(expected); // they may be spread over partitions
        Collections.sort(came);
        check(came.equals(expected), "the results are " + came);
    }

    private void sqlOwned() throws Exception {
        try {
            sendOne(new ProducerRecord<>(prefix + "_big", 0, null, "{}"));
        } catch (ExecutionException error) {
            check(error.getCause() instanceof PolicyViolationException, "writing to a stream's topic gave " + error);
            check(error.getCause().getMessage().contains(prefix + "_big"), "the refusal does not name the stream: " + error);
            return;
        }
        check(false, "a record from outside was accepted in a stream's topic");
    }
}
