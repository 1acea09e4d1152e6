// The shared list of steps with franz-go. See protocol-tests/README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	. "millpond/protocol-tests/steps"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	names, withSQL = Arguments()
	client         = open()
	admin          = kadm.NewClient(client)
)

func open(options ...kgo.Opt) *kgo.Client {
	opened, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(names.Bootstrap), kgo.RecordDeliveryTimeout(20 * time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)...)
	Must(err, "client")
	return opened
}

func limit() context.Context {
	ctx, _ := context.WithTimeout(context.Background(), Limit) //nolint:govet // ends with the process
	return ctx
}

func send(with *kgo.Client, records ...*kgo.Record) error {
	return with.ProduceSync(limit(), records...).FirstErr()
}

func numbered(topic, name string, from, to, partitions int) (records []*kgo.Record) {
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: []byte(fmt.Sprint(name, i))})
	}
	return records
}

func read(topic string, count int) (got []*kgo.Record) {
	reader := open(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
	defer reader.Close()
	for ctx := limit(); len(got) < count && ctx.Err() == nil; {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() == nil {
			Must(fetches.Err(), "fetch")
		}
		got = append(got, fetches.Records()...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	got = append(got, reader.PollFetches(ctx).Records()...)
	Check(len(got) == count, "%d records of %s instead of %d", len(got), topic, count)
	return got
}

func createTopic() {
	retention := "86400000"
	_, err := admin.CreateTopic(limit(), 4, 1, map[string]*string{"retention.ms": &retention}, names.Main)
	Must(err, "create")
	_, err = admin.CreateTopic(limit(), 4, -1, nil, names.GroupTopic)
	Must(err, "create")
	_, err = admin.CreateTopic(limit(), 1, -1, nil, names.Idempotent)
	Must(err, "create")
	_, err = admin.CreateTopic(limit(), 4, 1, nil, names.Main)
	Check(errors.Is(err, kerr.TopicAlreadyExists), "the second creation gave %v", err)
	listed, err := admin.ListTopics(limit(), names.Main)
	Must(err, "list")
	Check(len(listed[names.Main].Partitions) == 4, "the topic has not 4 partitions: %v", listed)
}

func produce(codec string) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	writer := open(kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(20*time.Millisecond))
	defer writer.Close()
	var records []*kgo.Record
	for i := range PerCodec {
		records = append(records, &kgo.Record{Topic: names.Main, Partition: int32(i % 4), Key: []byte(fmt.Sprint(codec, "-", i)), Value: []byte(Value(codec, i)),
			Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte(codec)}, {Key: "n", Value: []byte(strconv.Itoa(i))}, {Key: "none"}}})
	}
	Must(send(writer, records...), "produce")
}

func consumeAll() {
	seen, last := map[string]bool{}, map[string]int{}
	for _, each := range read(names.Main, PerCodec*len(Codecs)) {
		codec, text, _ := strings.Cut(string(each.Key), "-")
		number, _ := strconv.Atoi(text)
		Check(len(each.Headers) == 3 && string(each.Headers[0].Value) == codec && string(each.Headers[1].Value) == text && each.Headers[2].Value == nil,
			"headers of %s: %v", each.Key, each.Headers)
		Check(string(each.Value) == Value(codec, number), "value of %s", each.Key)
		Check(!seen[string(each.Key)], "%s came twice", each.Key)
		seen[string(each.Key)] = true
		place := fmt.Sprint(each.Partition, codec)
		before, known := last[place]
		Check(!known || before < number, "order in %s", place)
		last[place] = number
	}
}

func idempotent() {
	writer := open(kgo.ProducerBatchMaxBytes(512)) // franz-go is idempotent unless told otherwise
	defer writer.Close()
	Must(send(writer, numbered(names.Idempotent, "", 0, 500, 1)...), "produce")
	for i, each := range read(names.Idempotent, 500) {
		Check(string(each.Value) == strconv.Itoa(i), "record %d is %s", i, each.Value)
	}
}

func sum(listed kadm.ListedOffsets, err error) (sum int64) {
	Must(err, "offsets")
	Must(listed.Error(), "offsets")
	listed.Each(func(each kadm.ListedOffset) { sum += each.Offset })
	return sum
}

func offsets() {
	all := int64(PerCodec * len(Codecs))
	early := sum(admin.ListStartOffsets(limit(), names.Main))
	late := sum(admin.ListEndOffsets(limit(), names.Main))
	Check(early == 0 && late == all, "start %d, end %d", early, late)
	Check(sum(admin.ListOffsetsAfterMilli(limit(), 1000, names.Main)) == 0, "offsets for the year 1970")
	Check(sum(admin.ListOffsetsAfterMilli(limit(), time.Now().Add(24*time.Hour).UnixMilli(), names.Main)) == all, "offsets for tomorrow")
	highest := sum(admin.ListMaxTimestampOffsets(limit(), names.Main))
	Check(highest >= 0 && highest <= all, "the highest timestamps are at %d", highest)
}

// member is a group member on a goroutine of its own.
type member struct {
	client   *kgo.Client
	lock     sync.Mutex
	assigned map[int32]bool
	values   []string
	done     chan struct{}
	cancel   context.CancelFunc
}

func join(strategy kgo.GroupBalancer) *member {
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{assigned: map[int32]bool{}, done: make(chan struct{}), cancel: cancel}
	change := func(add bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.lock.Lock()
			defer m.lock.Unlock()
			for _, partition := range changed[names.GroupTopic] {
				if add {
					m.assigned[partition] = true
				} else {
					delete(m.assigned, partition)
				}
			}
		}
	}
	m.client = open(kgo.ConsumerGroup(names.Group), kgo.ConsumeTopics(names.GroupTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.Balancers(strategy), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			fetches := m.client.PollFetches(ctx)
			m.lock.Lock()
			fetches.EachRecord(func(each *kgo.Record) { m.values = append(m.values, string(each.Value)) })
			m.lock.Unlock()
		}
	}()
	return m
}

func (m *member) owns() int  { m.lock.Lock(); defer m.lock.Unlock(); return len(m.assigned) }
func (m *member) count() int { m.lock.Lock(); defer m.lock.Unlock(); return len(m.values) }
func (m *member) clear()     { m.lock.Lock(); defer m.lock.Unlock(); m.values = nil }
func (m *member) commit()    { Must(m.client.CommitUncommittedOffsets(limit()), "commit") }
func (m *member) leave()     { m.cancel(); <-m.done; m.client.Close() }

var (
	first  *member
	writer *kgo.Client
)

func groupOfTwo() {
	first = join(kgo.CooperativeStickyBalancer())
	Wait("the first member owns 4 partitions", func() bool { return first.owns() == 4 })
	second := join(kgo.CooperativeStickyBalancer())
	Wait("each member owns 2 partitions", func() bool { return first.owns() == 2 && second.owns() == 2 })
	writer = open()
	Must(send(writer, numbered(names.GroupTopic, "a", 0, 100, 4)...), "produce")
	Wait("the members got 100 records", func() bool { return first.count()+second.count() >= 100 })
	Check(first.count() == 50 && second.count() == 50, "the members got %d and %d", first.count(), second.count())
	first.commit()
	second.commit()
	second.leave()
	Wait("the first member owns all again after the second left", func() bool { return first.owns() == 4 })
	first.clear()
	Must(send(writer, numbered(names.GroupTopic, "b", 0, 20, 4)...), "produce")
	Wait("the first member got 20 more", func() bool { return first.count() >= 20 })
	Check(Same(first.values, "b", 20), "after the rebalance came %v", first.values)
}

func commit() {
	first.commit()
	committed, err := admin.FetchOffsets(limit(), names.Group)
	Must(err, "fetch offsets")
	for partition := range int32(4) {
		offset, known := committed.Lookup(names.GroupTopic, partition)
		Check(known && offset.At == 30, "partition %d is committed at %v", partition, offset)
	}
}

func restartResume() {
	first.clear()
	Restart()
	Must(send(writer, numbered(names.GroupTopic, "c", 0, 20, 4)...), "produce after the restart")
	Wait("the member got 20 records after the restart", func() bool { return first.count() >= 20 })
	Check(Same(first.values, "c", 20), "after the restart came %v", first.values)
	first.commit()
	first.leave()
	third := join(kgo.RangeBalancer())
	Wait("a new member owns all partitions", func() bool { return third.owns() == 4 })
	Must(send(writer, numbered(names.GroupTopic, "d", 0, 4, 4)...), "produce")
	Wait("the new member got 4 records", func() bool { return third.count() >= 4 })
	time.Sleep(300 * time.Millisecond)
	Check(Same(third.values, "d", 4), "the new member got %v", third.values)
	third.leave()
}

func config(name string) string {
	described, err := admin.DescribeTopicConfigs(limit(), names.Main)
	Must(err, "describe")
	found, err := described.On(names.Main, nil)
	Must(err, "describe")
	Must(found.Err, "describe")
	for _, each := range found.Configs {
		if each.Key == name {
			return each.MaybeValue()
		}
	}
	panic("no config " + name)
}

func configs() {
	Check(config("retention.ms") == "86400000" && config("cleanup.policy") == "delete", "the configs as created")
	hour, soon := "3600000", "soon"
	_, err := admin.AlterTopicConfigs(limit(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &hour}}, names.Main)
	Must(err, "alter")
	Wait("retention.ms shows the change", func() bool { return config("retention.ms") == hour })
	answers, err := admin.AlterTopicConfigs(limit(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &soon}}, names.Main)
	Must(err, "alter")
	Check(errors.Is(answers[0].Err, kerr.InvalidConfig), "retention.ms=soon gave %v", answers[0].Err)
	brokers, err := admin.DescribeBrokerConfigs(limit(), 1)
	Must(err, "describe the broker")
	Check(len(brokers[0].Configs) > 20, "the broker has %d configs", len(brokers[0].Configs))
	epochs := kmsg.NewPtrOffsetForLeaderEpochRequest()
	topic, partition := kmsg.NewOffsetForLeaderEpochRequestTopic(), kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	topic.Topic, partition.CurrentLeaderEpoch, partition.LeaderEpoch, epochs.ReplicaID = names.Main, -1, 0, -1
	topic.Partitions = append(topic.Partitions, partition)
	epochs.Topics = append(epochs.Topics, topic)
	shards := client.RequestSharded(limit(), epochs)
	Must(shards[0].Err, "OffsetForLeaderEpoch")
	answer := shards[0].Resp.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
	Must(kerr.ErrorForCode(answer.ErrorCode), "OffsetForLeaderEpoch")
	Check(answer.EndOffset > 0, "the leader's epoch ends at %d", answer.EndOffset)
}

func partitions() {
	_, err := admin.UpdatePartitions(limit(), 6, names.Main)
	Must(err, "partitions")
	Wait("6 partitions are listed", func() bool {
		listed, err := admin.ListTopics(limit(), names.Main)
		return err == nil && len(listed[names.Main].Partitions) == 6
	})
	writer := open()
	defer writer.Close()
	Must(send(writer, &kgo.Record{Topic: names.Main, Partition: 5, Value: []byte("in the new one")}), "produce")
}

func groups() {
	listed, err := admin.ListGroups(limit())
	Must(err, "list")
	Check(listed[names.Group].Group == names.Group, "the group is not listed: %v", listed)
	described, err := admin.DescribeGroups(limit(), names.Group)
	Must(err, "describe")
	Check(described[names.Group].State == "Empty", "the group is %v", described[names.Group])
	_, err = admin.DeleteGroup(limit(), names.Group)
	Must(err, "delete")
	listed, err = admin.ListGroups(limit())
	Must(err, "list")
	Check(listed[names.Group].Group == "", "the group is still listed")
}

func deleteRecords() {
	wanted := kadm.Offsets{}
	wanted.AddOffset(names.Main, 0, 5, -1)
	deleted, err := admin.DeleteRecords(limit(), wanted)
	Must(err, "delete")
	one, _ := deleted.Lookup(names.Main, 0)
	Must(one.Err, "delete")
	Check(one.LowWatermark == 5, "low watermark %d", one.LowWatermark)
	Check(sum(admin.ListStartOffsets(limit(), names.Main)) == 5, "the start after the deletion")
	folders, err := admin.DescribeAllLogDirs(limit(), nil)
	Must(err, "log dirs")
	Check(len(folders) == 1, "log dirs of %d brokers", len(folders))
}

func deleteTopic() {
	_, err := admin.DeleteTopic(limit(), names.Main)
	Must(err, "delete")
	Wait("the topic is gone", func() bool {
		listed, err := admin.ListTopics(limit())
		return err == nil && !listed.Has(names.Main)
	})
}

func rows(from, to int) (records []*kgo.Record) {
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: names.Events, Value: []byte(Row(i))})
	}
	return records
}

func statement(name, sql string) error {
	writer := open(kgo.AllowAutoTopicCreation())
	defer writer.Close()
	return send(writer, &kgo.Record{Topic: "_millpond_sql", Key: []byte(names.Prefix + "-" + name), Value: []byte(sql),
		Headers: []kgo.RecordHeader{{Key: "from", Value: []byte("franz-go")}}})
}

func sqlRegister() {
	writer := open(kgo.AllowAutoTopicCreation())
	defer writer.Close()
	Must(send(writer, rows(0, 100)...), "produce rows")
	Must(statement("good", names.GoodStatement()), "register")
}

func sqlRefused() {
	err := statement("bad", names.BadStatement())
	Check(errors.Is(err, kerr.InvalidRecord), "the wrong statement gave %v", err)
}

func answer(name string) []byte {
	reader := open(kgo.ConsumeTopics("_millpond_answers"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
	defer reader.Close()
	for ctx := limit(); ctx.Err() == nil; {
		for _, each := range reader.PollFetches(ctx).Records() {
			if string(each.Key) == names.Prefix+"-"+name {
				Check(len(each.Headers) > 0 && each.Headers[0].Key == "from", "the answer's headers are %v", each.Headers)
				return each.Value
			}
		}
	}
	panic("no answer for " + name)
}

func sqlAnswers() {
	CheckRefusal(answer("bad"))
	Must(statement("show", "SHOW STREAMS"), "show")
	Check(strings.Contains(string(answer("show")), names.Big), "SHOW STREAMS does not name the stream")
}

func sqlResults() {
	for _, to := range []int{100, 105} {
		if to == 105 {
			writer := open()
			Must(send(writer, rows(100, 105)...), "produce rows")
			writer.Close()
		}
		var came []string
		for _, each := range read(names.Big, to-90) {
			came = append(came, string(each.Value))
		}
		CheckResults(came, to)
	}
}

func sqlOwned() {
	writer := open()
	defer writer.Close()
	err := send(writer, &kgo.Record{Topic: names.Big, Value: []byte("{}")})
	Check(errors.Is(err, kerr.PolicyViolation), "writing to a stream's topic gave %v", err)
}

func main() {
	list := []Step{{"create_topic", createTopic}}
	for _, codec := range Codecs {
		list = append(list, Step{"produce_" + codec, func() { produce(codec) }})
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
