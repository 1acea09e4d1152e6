// The shared list of steps with sarama. See protocol-tests/README.md.
//
// sarama speaks the versions of a Kafka release that its user names (2.8 unless told otherwise); the steps use both its default
// and its newest, so that old and new versions of the requests are sent.
package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	. "millpond/protocol-tests/steps"

	"github.com/IBM/sarama"
)

var (
	names, withSQL = Arguments()
	admin          = openAdmin()
)

func config(newest bool) *sarama.Config {
	c := sarama.NewConfig()
	if newest {
		c.Version = sarama.MaxVersion
	}
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Timeout = 10 * time.Second
	c.Producer.Retry.Max = 20
	c.Producer.Retry.Backoff = 250 * time.Millisecond
	c.Metadata.Retry.Max = 40
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	c.Consumer.MaxWaitTime = 200 * time.Millisecond
	return c
}

func openAdmin() sarama.ClusterAdmin {
	opened, err := sarama.NewClusterAdmin([]string{names.Bootstrap}, config(true))
	Must(err, "admin")
	return opened
}

func producer(change func(*sarama.Config)) sarama.SyncProducer {
	c := config(true)
	if change != nil {
		change(c)
	}
	opened, err := sarama.NewSyncProducer([]string{names.Bootstrap}, c)
	Must(err, "producer")
	return opened
}

func numbered(topic, name string, from, to, partitions int) (messages []*sarama.ProducerMessage) {
	for i := from; i < to; i++ {
		messages = append(messages, &sarama.ProducerMessage{Topic: topic, Partition: int32(i % partitions), Value: sarama.StringEncoder(fmt.Sprint(name, i))})
	}
	return messages
}

// first error of a batch of messages, unwrapped from sarama's list
func send(with sarama.SyncProducer, messages []*sarama.ProducerMessage) error {
	err := with.SendMessages(messages)
	var several sarama.ProducerErrors
	if errors.As(err, &several) && len(several) > 0 {
		return several[0].Err
	}
	return err
}

func read(topic string, count int, newest bool) (got []*sarama.ConsumerMessage) {
	consumer, err := sarama.NewConsumer([]string{names.Bootstrap}, config(newest))
	Must(err, "consumer")
	defer consumer.Close()
	partitions, err := consumer.Partitions(topic)
	Must(err, "partitions")
	came := make(chan *sarama.ConsumerMessage, 1000)
	for _, partition := range partitions {
		one, err := consumer.ConsumePartition(topic, partition, sarama.OffsetOldest)
		Must(err, "consume")
		defer one.Close()
		go func() {
			for message := range one.Messages() {
				came <- message
			}
		}()
	}
	timeout := time.After(Limit)
	for waiting := true; waiting; {
		select {
		case message := <-came:
			got = append(got, message)
			if len(got) == count {
				timeout = time.After(300 * time.Millisecond)
			}
		case <-timeout:
			waiting = false
		}
	}
	Check(len(got) == count, "%d records of %s instead of %d", len(got), topic, count)
	return got
}

func createTopic() {
	retention := "86400000"
	Must(admin.CreateTopic(names.Main, &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1,
		ConfigEntries: map[string]*string{"retention.ms": &retention}}, false), "create")
	Must(admin.CreateTopic(names.GroupTopic, &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: -1}, false), "create")
	Must(admin.CreateTopic(names.Idempotent, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false), "create")
	err := admin.CreateTopic(names.Main, &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1}, false)
	Check(errors.Is(err, sarama.ErrTopicAlreadyExists), "the second creation gave %v", err)
	described, err := admin.DescribeTopics([]string{names.Main})
	Must(err, "describe")
	Check(len(described[0].Partitions) == 4, "the topic has not 4 partitions")
}

func produce(codec string, newest bool) {
	codecs := map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
	with := producer(func(c *sarama.Config) {
		if !newest {
			c.Version = sarama.DefaultVersion
		}
		c.Producer.Compression = codecs[codec]
		c.Producer.Flush.Frequency = 20 * time.Millisecond
	})
	defer with.Close()
	var messages []*sarama.ProducerMessage
	for i := range PerCodec {
		messages = append(messages, &sarama.ProducerMessage{Topic: names.Main, Partition: int32(i % 4),
			Key: sarama.StringEncoder(fmt.Sprint(codec, "-", i)), Value: sarama.StringEncoder(Value(codec, i)),
			Headers: []sarama.RecordHeader{{Key: []byte("codec"), Value: []byte(codec)}, {Key: []byte("n"), Value: []byte(strconv.Itoa(i))}}})
	}
	Must(send(with, messages), "produce")
}

func consumeAll() {
	for _, newest := range []bool{false, true} {
		seen, last := map[string]bool{}, map[string]int{}
		for _, each := range read(names.Main, PerCodec*len(Codecs), newest) {
			codec, text, _ := strings.Cut(string(each.Key), "-")
			number, _ := strconv.Atoi(text)
			Check(len(each.Headers) == 2 && string(each.Headers[0].Value) == codec && string(each.Headers[1].Value) == text, "headers of %s", each.Key)
			Check(string(each.Value) == Value(codec, number), "value of %s", each.Key)
			Check(!seen[string(each.Key)], "%s came twice", each.Key)
			seen[string(each.Key)] = true
			place := fmt.Sprint(each.Partition, codec)
			before, known := last[place]
			Check(!known || before < number, "order in %s", place)
			last[place] = number
		}
	}
}

func idempotent() {
	with := producer(func(c *sarama.Config) {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
		c.Producer.Flush.MaxMessages = 7
	})
	defer with.Close()
	Must(send(with, numbered(names.Idempotent, "", 0, 500, 1)), "produce")
	for i, each := range read(names.Idempotent, 500, true) {
		Check(string(each.Value) == strconv.Itoa(i), "record %d is %s", i, each.Value)
	}
}

func offsets() {
	client, err := sarama.NewClient([]string{names.Bootstrap}, config(true))
	Must(err, "client")
	defer client.Close()
	sum := func(at int64) (sum int64) {
		for partition := range int32(4) {
			offset, err := client.GetOffset(names.Main, partition, at)
			Must(err, "offset")
			sum += offset
		}
		return sum
	}
	early, late := sum(sarama.OffsetOldest), sum(sarama.OffsetNewest)
	Check(early == 0 && late == int64(PerCodec*len(Codecs)), "start %d, end %d", early, late)
	Check(sum(1000) == 0, "offsets for the year 1970")
	Check(sum(time.Now().Add(24*time.Hour).UnixMilli()) == -4, "offsets for tomorrow")
}

// member is a group member on a goroutine of its own.
type member struct {
	group    sarama.ConsumerGroup
	lock     sync.Mutex
	assigned map[int32]bool
	values   []string
	session  sarama.ConsumerGroupSession
	cancel   context.CancelFunc
	done     chan struct{}
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session, m.assigned = session, map[int32]bool{}
	for _, partition := range session.Claims()[names.GroupTopic] {
		m.assigned[partition] = true
	}
	return nil
}

func (m *member) Cleanup(session sarama.ConsumerGroupSession) error {
	session.Commit()
	m.lock.Lock()
	defer m.lock.Unlock()
	m.assigned = map[int32]bool{}
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.lock.Lock()
			m.values = append(m.values, string(message.Value))
			m.lock.Unlock()
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func join(newest bool) *member {
	group, err := sarama.NewConsumerGroup([]string{names.Bootstrap}, names.Group, config(newest))
	Must(err, "group")
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{group: group, assigned: map[int32]bool{}, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{names.GroupTopic}, m); err != nil {
				time.Sleep(100 * time.Millisecond) // the broker is away for a moment
			}
		}
	}()
	return m
}

func (m *member) owns() int  { m.lock.Lock(); defer m.lock.Unlock(); return len(m.assigned) }
func (m *member) count() int { m.lock.Lock(); defer m.lock.Unlock(); return len(m.values) }
func (m *member) clear()     { m.lock.Lock(); defer m.lock.Unlock(); m.values = nil }
func (m *member) commit()    { m.lock.Lock(); defer m.lock.Unlock(); m.session.Commit() }
func (m *member) distinct() []string {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(m.values)))
}
func (m *member) leave() { m.cancel(); <-m.done; Must(m.group.Close(), "leave") }

var (
	first  *member
	writer sarama.SyncProducer
)

func groupOfTwo() {
	first = join(true)
	Wait("the first member owns 4 partitions", func() bool { return first.owns() == 4 })
	second := join(false)
	Wait("each member owns 2 partitions", func() bool { return first.owns() == 2 && second.owns() == 2 })
	writer = producer(nil)
	Must(send(writer, numbered(names.GroupTopic, "a", 0, 100, 4)), "produce")
	Wait("the members got 100 records", func() bool { return first.count()+second.count() >= 100 })
	Check(first.count() == 50 && second.count() == 50, "the members got %d and %d", first.count(), second.count())
	first.commit()
	second.commit()
	second.leave()
	Wait("the first member owns all again after the second left", func() bool { return first.owns() == 4 })
	first.clear()
	Must(send(writer, numbered(names.GroupTopic, "b", 0, 20, 4)), "produce")
	Wait("the first member got 20 more", func() bool { return first.count() >= 20 })
	Check(Same(first.values, "b", 20), "after the rebalance came %v", first.values)
}

func commit() {
	first.commit()
	committed, err := admin.ListConsumerGroupOffsets(names.Group, map[string][]int32{names.GroupTopic: {0, 1, 2, 3}})
	Must(err, "list offsets")
	for partition := range int32(4) {
		block := committed.GetBlock(names.GroupTopic, partition)
		Check(block != nil && block.Offset == 30, "partition %d is committed at %v", partition, block)
	}
}

func restartResume() {
	first.clear()
	Restart()
	Must(send(writer, numbered(names.GroupTopic, "c", 0, 20, 4)), "produce after the restart")
	// sarama ends its session when its connection breaks, and begins the next one at the committed offsets: at least once, so
	// each value counts once.
	Wait("the member got 20 records after the restart", func() bool { return len(first.distinct()) >= 20 })
	Check(Same(first.distinct(), "c", 20), "after the restart came %v", first.values)
	Wait("the member owns all partitions", func() bool { return first.owns() == 4 })
	first.commit()
	first.leave()
	third := join(true)
	Wait("a new member owns all partitions", func() bool { return third.owns() == 4 })
	Must(send(writer, numbered(names.GroupTopic, "d", 0, 4, 4)), "produce")
	Wait("the new member got 4 records", func() bool { return third.count() >= 4 })
	time.Sleep(300 * time.Millisecond)
	Check(Same(third.values, "d", 4), "the new member got %v", third.values)
	third.leave()
}

func topicConfig(name string) string {
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: names.Main})
	Must(err, "describe")
	for _, entry := range entries {
		if entry.Name == name {
			return entry.Value
		}
	}
	panic("no config " + name)
}

func configs() {
	admin.Close()
	admin = openAdmin() // after the restart, with a fresh connection
	Check(topicConfig("retention.ms") == "86400000" && topicConfig("cleanup.policy") == "delete", "the configs as created")
	hour, soon := "3600000", "soon"
	set := func(value *string) error {
		return admin.IncrementalAlterConfig(sarama.TopicResource, names.Main,
			map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: value}}, false)
	}
	Must(set(&hour), "alter")
	Wait("retention.ms shows the change", func() bool { return topicConfig("retention.ms") == hour })
	err := set(&soon)
	Check(errors.Is(err, sarama.ErrInvalidConfig), "retention.ms=soon gave %v", err)
	Must(admin.AlterConfig(sarama.TopicResource, names.Main, map[string]*string{"retention.bytes": &hour}, false), "the older AlterConfigs")
	Wait("the older AlterConfigs replaces all", func() bool {
		return topicConfig("retention.bytes") == hour && topicConfig("retention.ms") == "604800000"
	})
	brokers, _, err := admin.DescribeCluster()
	Must(err, "cluster")
	Check(len(brokers) == 1, "the cluster has %d nodes", len(brokers))
}

func partitions() {
	Must(admin.CreatePartitions(names.Main, 6, nil, false), "partitions")
	Wait("6 partitions are listed", func() bool {
		described, err := admin.DescribeTopics([]string{names.Main})
		return err == nil && len(described[0].Partitions) == 6
	})
	with := producer(nil)
	defer with.Close()
	Must(send(with, []*sarama.ProducerMessage{{Topic: names.Main, Partition: 5, Value: sarama.StringEncoder("in the new one")}}), "produce")
}

func groups() {
	listed, err := admin.ListConsumerGroups()
	Must(err, "list")
	Check(listed[names.Group] == "consumer", "the group is not listed: %v", listed)
	described, err := admin.DescribeConsumerGroups([]string{names.Group})
	Must(err, "describe")
	Check(described[0].State == "Empty", "the group is %v", described[0].State)
	Must(admin.DeleteConsumerGroupOffset(names.Group, names.GroupTopic, 0), "delete an offset")
	Must(admin.DeleteConsumerGroup(names.Group), "delete")
	listed, err = admin.ListConsumerGroups()
	Must(err, "list")
	_, there := listed[names.Group]
	Check(!there, "the group is still listed")
}

func deleteRecords() {
	Must(admin.DeleteRecords(names.Main, map[int32]int64{0: 5}), "delete")
	client, err := sarama.NewClient([]string{names.Bootstrap}, config(false))
	Must(err, "client")
	defer client.Close()
	start, err := client.GetOffset(names.Main, 0, sarama.OffsetOldest)
	Must(err, "start")
	Check(start == 5, "the log starts at %d", start)
	folders, err := admin.DescribeLogDirs([]int32{1})
	Must(err, "log dirs")
	Check(len(folders[1]) == 1, "log dirs: %v", folders)
}

func deleteTopic() {
	Must(admin.DeleteTopic(names.Main), "delete")
	Wait("the topic is gone", func() bool {
		listed, err := admin.ListTopics()
		_, there := listed[names.Main]
		return err == nil && !there
	})
}

func rows(from, to int) (messages []*sarama.ProducerMessage) {
	for i := from; i < to; i++ {
		messages = append(messages, &sarama.ProducerMessage{Topic: names.Events, Value: sarama.StringEncoder(Row(i))})
	}
	return messages
}

func sendOnce(messages []*sarama.ProducerMessage) error {
	with := producer(func(c *sarama.Config) { c.Producer.Retry.Max = 3 })
	defer with.Close()
	return send(with, messages)
}

func statement(name, sql string) error {
	return sendOnce([]*sarama.ProducerMessage{{Topic: "_millpond_sql", Key: sarama.StringEncoder(names.Prefix + "-" + name), Value: sarama.StringEncoder(sql),
		Headers: []sarama.RecordHeader{{Key: []byte("from"), Value: []byte("sarama")}}}})
}

func sqlRegister() {
	Must(sendOnce(rows(0, 100)), "produce rows")
	Must(statement("good", names.GoodStatement()), "register")
}

func sqlRefused() {
	err := statement("bad", names.BadStatement())
	var code sarama.KError
	Check(errors.As(err, &code) && code == 87, "the wrong statement gave %T %v", err, err) // INVALID_RECORD
}

func answer(name string) []byte {
	consumer, err := sarama.NewConsumer([]string{names.Bootstrap}, config(true))
	Must(err, "consumer")
	defer consumer.Close()
	one, err := consumer.ConsumePartition("_millpond_answers", 0, sarama.OffsetOldest)
	Must(err, "consume")
	defer one.Close()
	timeout := time.After(Limit)
	for {
		select {
		case message := <-one.Messages():
			if string(message.Key) == names.Prefix+"-"+name {
				Check(len(message.Headers) > 0 && string(message.Headers[0].Key) == "from", "the answer's headers are %v", message.Headers)
				return message.Value
			}
		case <-timeout:
			panic("no answer for " + name)
		}
	}
}

func sqlAnswers() {
	CheckRefusal(answer("bad"))
	Must(statement("show", "SHOW STREAMS"), "show")
	Check(strings.Contains(string(answer("show")), names.Big), "SHOW STREAMS does not name the stream")
}

func sqlResults() {
	for _, to := range []int{100, 105} {
		if to == 105 {
			Must(sendOnce(rows(100, 105)), "produce rows")
		}
		var came []string
		for _, each := range read(names.Big, to-90, true) {
			came = append(came, string(each.Value))
		}
		CheckResults(came, to)
	}
}

func sqlOwned() {
	err := sendOnce([]*sarama.ProducerMessage{{Topic: names.Big, Value: sarama.StringEncoder("{}")}})
	Check(errors.Is(err, sarama.ErrPolicyViolation), "writing to a stream's topic gave %v", err)
}

func main() {
	list := []Step{{"create_topic", createTopic}}
	for number, codec := range Codecs {
		list = append(list, Step{"produce_" + codec, func() { produce(codec, number%2 == 0) }})
	}
	list = append(list, Step{"consume_all", consumeAll}, Step{"idempotent", idempotent}, Step{"offsets", offsets}, Step{"group_of_two", groupOfTwo},
		Step{"commit", commit}, Step{"restart_resume", restartResume}, Step{"configs", configs}, Step{"partitions", partitions},
		Step{"groups", groups}, Step{"delete_records", deleteRecords}, Step{"delete_topic", deleteTopic})
	if withSQL {
		list = append(list, Step{"sql_register", sqlRegister}, Step{"sql_refused", sqlRefused}, Step{"sql_answers", sqlAnswers},
			Step{"sql_results", sqlResults}, Step{"sql_owned", sqlOwned})
	}
	Run(list)
}
