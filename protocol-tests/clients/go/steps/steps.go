// Package steps is what the Go clients share: the frame that runs named steps and prints one line for each.
package steps

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"
)

// PerCodec is how many records are produced with each compression.
const PerCodec = 60

// Limit is how long a step waits for anything.
const Limit = 30 * time.Second

// Codecs are the compressions of the protocol.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// Names are the topics and the group of one run.
type Names struct{ Bootstrap, Prefix, Main, Idempotent, GroupTopic, Events, Group, Big string }

// Step is one entry of the shared list.
type Step struct {
	Name string
	Run  func()
}

// Arguments reads BOOTSTRAP PREFIX sql|nosql from the command line.
func Arguments() (Names, bool) {
	p := os.Args[2]
	return Names{os.Args[1], p, p + "_main", p + "_idem", p + "_group", p + "_events", p + "_members", p + "_big"}, os.Args[3] == "sql"
}

// Run runs the steps in order; a panic in a step is its failure.
func Run(list []Step) {
	for _, step := range list {
		func() {
			defer func() {
				if failure := recover(); failure != nil {
					fmt.Printf("FAIL %s: %s\n", step.Name, strings.Join(strings.Fields(fmt.Sprint(failure)), " "))
				}
			}()
			step.Run()
			fmt.Printf("ok %s\n", step.Name)
		}()
	}
}

// Check fails the step unless the condition holds.
func Check(condition bool, format string, arguments ...any) {
	if !condition {
		panic(fmt.Sprintf(format, arguments...))
	}
}

// Must fails the step when there is an error.
func Must(err error, what string) {
	if err != nil {
		panic(fmt.Sprintf("%s: %T %v", what, err, err))
	}
}

// Wait polls until the condition holds.
func Wait(what string, condition func() bool) {
	for deadline := time.Now().Add(Limit); !condition(); time.Sleep(50 * time.Millisecond) {
		Check(time.Now().Before(deadline), "not within %v: %s", Limit, what)
	}
}

// Restart asks the runner to restart the broker and waits until it did.
func Restart() {
	fmt.Println("REQUEST restart")
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	Check(strings.TrimSpace(line) == "restarted", "the runner could not restart the broker")
}

// Same tells whether the values are name0 to name(count-1), in any order.
func Same(values []string, name string, count int) bool {
	var expected []string
	for i := range count {
		expected = append(expected, fmt.Sprint(name, i))
	}
	values = append([]string(nil), values...)
	sort.Strings(expected)
	sort.Strings(values)
	return strings.Join(values, ",") == strings.Join(expected, ",")
}

// Value is the value of one record of the compression steps.
func Value(codec string, number int) string {
	return fmt.Sprintf("%s value %d %s", codec, number, strings.Repeat("abcdefgh", 25))
}

// Row is one row of the topic that the streams read.
func Row(number int) string {
	return fmt.Sprintf(`{"n":%d,"name":"row-%d","price":%g}`, number, number, float64(number)/2)
}

// Result is what the stream makes of a row.
func Result(number int) string { return fmt.Sprintf(`{"n":%d,"name":"row-%d"}`, number, number) }

// CheckResults compares what the stream gave with the rows [90, to); they may be spread over partitions.
func CheckResults(came []string, to int) {
	var expected []string
	for number := 90; number < to; number++ {
		expected = append(expected, Result(number))
	}
	sort.Strings(came)
	sort.Strings(expected)
	Check(strings.Join(came, "\n") == strings.Join(expected, "\n"), "the results are %v", came)
}

// GoodStatement and BadStatement are the statements of the SQL steps.
func (n Names) GoodStatement() string {
	return fmt.Sprintf("CREATE MATERIALIZED STREAM %s AS SELECT n, name FROM %s WHERE n >= 90", n.Big, n.Events)
}

// BadStatement names a column that does not exist.
func (n Names) BadStatement() string {
	return fmt.Sprintf("CREATE MATERIALIZED STREAM %s_bad AS SELECT nmae FROM %s", n.Prefix, n.Events)
}

// CheckRefusal checks the answer to the wrong statement.
func CheckRefusal(value []byte) {
	var answer struct {
		Error struct {
			Message      string
			Line, Column int
		}
	}
	Must(json.Unmarshal(value, &answer), "the answer is not JSON")
	Check(strings.Contains(answer.Error.Message, "nmae") && answer.Error.Line == 1 && answer.Error.Column > 1, "the refusal says %s", value)
}
