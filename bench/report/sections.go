package main

// A column shows a unit, as a ratio to the section's reference or as it is.
type column struct {
	unit  string
	head  string
	ratio bool
}

// beside is a column of ratios to another result.
type beside struct {
	unit, head string
	to         map[string]string
}

// A plot has a ratio or a share over one key. It has a line, or a colour of bars, for each value of
// other keys.
type plotSpec struct {
	file   string // without .svg
	title  string
	unit   string
	ratio  bool
	x      string
	xlabel string
	ylabel string
	log    bool              // lines over the logarithm of x; else bars over its values
	only   map[string]string // results to show
	not    map[string]string // results to leave out
	lines  []string          // keys; those not named are all the same, or in only
}

// A section shows one benchmark.
type section struct {
	bench   string
	split   []string // each combination of values of these keys has a separate table
	rows    []string // keys that name a row
	against map[string]string
	columns []column
	plots   []plotSpec
	// beside has ratios to other results than against.
	beside []beside
	// said has the keys of a run's file of which the section shows what the run said.
	said []string
}

// said has the contestants that are programs. A run says which libpcap each of them uses, or that
// it did not run.
var said = []string{"libpcap", "libpcap-next", "libpcap-zc", "libpcap-zc-next", "cgo-libpcap",
	"cgo-libpcap-zc", "bare-c"}

// sections has the benchmarks that the report knows. It shows others as they are.
var sections = []section{
	{
		bench: "Contest", split: []string{kernel, "size", "load"}, rows: []string{"reader"},
		against: map[string]string{"reader": "bare"},
		columns: []column{
			{"least-cpu-ns/pkt", "CPU per packet", true},
			{"least-cpu-us/s", "CPU", true},
			{"drop-%", "dropped, %", false},
			{"drop-error-%", "standard error, %", false},
			{"syscalls/Mpkt", "system calls per million packets", false},
			{"syscalls/s", "system calls/s", false},
			{"sleeps/s", "wake-ups/s", false},
			{"p99-us", "99 % of delays within, µs", false},
			{"p99-error-us", "standard error, µs", false},
			{"rss-KiB", "memory", true},
			{"least-cpu-ns/pkt", "CPU ns/packet, cheapest run", false},
			{"cpu-ns/pkt", "median", false},
			{"least-cpu-us/s", "CPU µs/s, cheapest run", false},
			{"cpu-us/s", "median", false},
			{"cpu-spread-%", "dearest above cheapest, %", false},
			{"pkts/s", "packets/s", false},
			{"stuck", "did not return", false},
		},
		beside: []beside{
			{"cpu-us/s", "CPU, median, × libpcap", map[string]string{"reader": "libpcap"}},
			{"cpu-us/s", "× libpcap-zc", map[string]string{"reader": "libpcap-zc"}},
		},
		said: said,
		plots: []plotSpec{
			{file: "contest-cpu-64", title: "CPU per packet, 64 bytes", unit: "least-cpu-ns/pkt",
				ratio: true, x: "load", ylabel: "times the bare loop in Go",
				only: map[string]string{"size": "64"}, lines: []string{"reader"},
				not: map[string]string{"reader": "go-pcap", "load": "overload"}},
			{file: "contest-cpu-1500", title: "CPU per packet, 1500 bytes", unit: "least-cpu-ns/pkt",
				ratio: true, x: "load", ylabel: "times the bare loop in Go",
				only: map[string]string{"size": "1500"}, lines: []string{"reader"},
				not: map[string]string{"reader": "go-pcap", "load": "overload"}},
			{file: "contest-drops-64", title: "Dropped, 64 bytes", unit: "drop-%", x: "load", ylabel: "% of packets", only: map[string]string{"size": "64"}, lines: []string{"reader"}},
			{file: "contest-drops-1500", title: "Dropped, 1500 bytes", unit: "drop-%", x: "load", ylabel: "% of packets", only: map[string]string{"size": "1500"}, lines: []string{"reader"}},
		},
	},
	{
		bench: "Rotation", split: []string{kernel, "own"}, rows: []string{"memory", "reader"},
		against: map[string]string{"reader": "zbuf-buffered"},
		columns: []column{
			{"drop-%", "dropped, %", false},
			{"drop-error-%", "standard error, %", false},
			{"cpu-ns/pkt", "CPU per packet", true},
			{"cpu-ns/pkt", "CPU ns/packet", false},
			{"syscalls/Mpkt", "system calls per million packets", false},
		},
	},
	{
		bench: "Touch", split: []string{kernel}, rows: []string{"size", "language"},
		against: map[string]string{"language": "Go"},
		columns: []column{
			{"touch-ns/pkt", "ns/packet", false},
			{"touch-ns/pkt", "touching a packet", true},
		},
	},
	{
		bench: "Delay", split: []string{kernel, "wait"}, rows: []string{"reader"},
		against: map[string]string{"reader": "read2"},
		columns: []column{
			{"p50-us", "half within", true},
			{"p99-us", "99 % within", true},
			{"max-us", "all within", true},
			{"cpu-us/s", "CPU", true},
			{"p50-us", "half within, µs", false},
			{"p50-error-us", "standard error, µs", false},
			{"p99-us", "99 % within, µs", false},
			{"p99-error-us", "standard error, µs", false},
			{"max-us", "all within, µs", false},
			{"stuck", "did not return", false},
		},
		plots: []plotSpec{{
			file: "delay", title: "99 % of delays, at a low rate", unit: "p99-us", ratio: true, x: "wait",
			ylabel: "times read(2)", lines: []string{"reader"},
		}},
	},
	{
		bench: "Buffers", split: []string{"size", "mode"}, rows: []string{"buffer"},
		against: map[string]string{"buffer": "524288", "mode": "buffered"},
		columns: []column{
			{"cpu-ns/pkt", "CPU per packet", true},
			{"drop-%", "dropped, %", false},
			{"syscalls/Mpkt", "system calls per million packets", false},
			{"cpu-ns/pkt", "CPU ns/packet", false},
			{"pkts/s", "packets/s", false},
		},
		plots: []plotSpec{
			{file: "buffers", title: "CPU per packet by size of buffer", unit: "cpu-ns/pkt", ratio: true,
				x: "buffer", xlabel: "KiB of each buffer",
				ylabel: "times read(2) with 512 KiB", log: true, lines: []string{"mode"}},
			{file: "buffers-drops", title: "Dropped by size of buffer", unit: "drop-%", x: "buffer",
				xlabel: "KiB of each buffer",
				ylabel: "% of packets", log: true, lines: []string{"mode"}},
		},
	},
	{
		bench: "Readers", split: []string{"size", "interfaces", "mode"}, rows: []string{"readers"},
		against: map[string]string{"readers": "1", "mode": "buffered", "interfaces": "one"},
		columns: []column{
			{"cpu-ns/pkt", "CPU per packet", true},
			{"drop-%", "dropped, %", false},
			{"syscalls/Mpkt", "system calls per million packets", false},
			{"cpu-ns/pkt", "CPU ns/packet", false},
			{"pkts/s", "packets/s, all readers", false},
		},
		plots: []plotSpec{{
			file: "readers", title: "CPU per packet by number of readers", unit: "cpu-ns/pkt", ratio: true,
			x: "readers", xlabel: "readers", ylabel: "times one buffered reader", log: true,
			lines: []string{"mode", "interfaces"},
		}},
	},
	{
		bench: "Fanout", split: []string{"world", "cpus", "work"}, rows: []string{"workers"},
		columns: []column{
			{"speedup", "speed-up, times one goroutine", false},
			{"alone-ns/pkt", "one goroutine, ns/packet", false},
			{"ns/pkt", "fan-out, ns/packet", false},
		},
		plots: []plotSpec{{
			file: "fanout", title: "Fan-out", unit: "speedup", x: "workers", xlabel: "workers",
			ylabel: "times one goroutine", log: true,
			lines: []string{"world", "work"},
		}},
	},
	{
		bench: "Walk", split: []string{processor, "buffer"}, rows: []string{"packet"},
		columns: []column{
			{"ratio-to-C", "range, × the best C", false},
			{"ratio-error", "standard error", false},
			{"cursor-ratio-to-C", "cursor, × the best C", false},
			{"ratio-to-body-C", "range, × C without calls", false},
			{"range-ns/packet", "range, ns/packet", false},
			{"cursor-ns/packet", "cursor", false},
			{"gcc-O2-ns/packet", "gcc -O2", false},
			{"gcc-O3-ns/packet", "gcc -O3", false},
			{"gcc-O2-fno-tree-slp-vectorize-ns/packet", "gcc -O2 -fno-tree-slp-vectorize", false},
			{"clang-O2-ns/packet", "clang -O2", false},
			{"clang-O3-ns/packet", "clang -O3", false},
			{"body-C-ns/packet", "C without calls", false},
		},
	},
	{
		bench: "Read", split: []string{"buffer"}, rows: []string{variant, "packet"},
		columns: []column{
			{"ratio-to-lease", "time per packet, × a lease that does the same", false},
			{"ns/packet", "ns/packet", false},
			{"lease-ns/packet", "lease, ns/packet", false},
			{"allocs/op", "allocations", false},
		},
	},
}

// keyTitles has the names of the keys in tables and legends.
var keyTitles = map[string]string{
	"size": "packets of", "load": "load", "reader": "reader", "wait": "wait", "mode": "mode",
	"buffer": "buffer", "interfaces": "interfaces", "readers": "readers", "world": "on the",
	"cpus": "processors", "work": "work for each packet", "workers": "workers", "packet": "packet",
	"language": "language", kernel: "", processor: "",
	variant: "",
}
