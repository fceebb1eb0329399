package sysctl_test

import (
	"errors"
	"fmt"
	"io/fs"
	"log"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/sysctl"
	"github.com/zbuf-go/zbuf/sysctl/sysctltest"
)

// machine is a model, so that the examples run everywhere. Programs use sysctl.Host.
func machine(opts ...bpftest.Option) (sysctl.Tree, *bpftest.Kernel) {
	k := bpftest.New(append([]bpftest.Option{bpftest.WithProcess(4711, 4711)}, opts...)...)
	k.AddInterface("em0", zbuf.DLT_EN10MB)
	vars := append(sysctltest.BPF(k), sysctltest.Processes(func(pid int) (string, bool) {
		return "dhclient", pid == 4711
	}))
	return sysctl.New(sysctltest.New(vars...)), k
}

func Example() {
	t, _ := machine() // t := sysctl.Host()
	n, err := t.Int64("net.bpf.bufsize")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "bytes")
	fmt.Println(t.Set("net.bpf.bufsize", int64(1)<<40))
	// Output:
	// 4096 bytes
	// sysctl net.bpf.bufsize: set: value out of range: 1099511627776 does not fit into int (32 bits)
}

func ExampleHost() {
	free, err := sysctl.Host().Int64("vm.stats.vm.v_free_count")
	if errors.Is(err, errors.ErrUnsupported) {
		log.Fatal("not FreeBSD")
	}
	fmt.Println(free, "pages are free", err)
}

func ExampleBPF_SetZeroCopyEnabled() {
	t, _ := machine()
	if err := t.BPF().SetZeroCopyEnabled(true); errors.Is(err, fs.ErrPermission) {
		log.Fatal("run as root: ", err)
	}
	on, err := t.BPF().ZeroCopyEnabled()
	fmt.Println(on, err)
	// Output: true <nil>
}

func ExampleBPF_Stats() {
	t, k := machine()
	d, err := zbuf.OpenOn(k)
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	if err := d.SetInterface("em0"); err != nil {
		log.Fatal(err)
	}
	k.Interface("em0").Receive(make([]byte, 60))

	all, err := t.BPF().Stats()
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range all {
		fmt.Printf("%s (%d) on %s: %d received, %d dropped\n", l.Process, l.PID, l.Interface, l.Received,
			l.Dropped)
	}
	// Output: dhclient (4711) on em0: 1 received, 0 dropped
}

func ExampleTree_Override() {
	t, _ := machine()
	restore, err := t.Override("net.bpf.maxbufsize", 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	n, _ := t.BPF().MaxBufSize()
	fmt.Println(n)
	if err := restore(); err != nil { // in a test: t.Cleanup
		log.Fatal(err)
	}
	n, _ = t.BPF().MaxBufSize()
	fmt.Println(n)
	// Output:
	// 1048576
	// 524288
}

func ExampleTree_Walk() {
	t, _ := machine()
	for name, err := range t.Walk("net.bpf") {
		if err != nil {
			log.Fatal(err)
		}
		f, err := t.Format(name)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(name, "-", f)
	}
	// Output:
	// net.bpf.maxinsns - int, read-write
	// net.bpf.zerocopy_enable - int, read-write
	// net.bpf.stats - node, read-write
	// net.bpf.optimize_writers - int, read-write
	// net.bpf.bufsize - int, read-write
	// net.bpf.maxbufsize - int, read-write
}

func ExampleSlice() {
	type clockinfo struct{ Hz, Tick, Spare, Stathz, Profhz int32 } // sys/sys/time.h
	c, err := sysctl.Slice[clockinfo](sysctl.Host(), "kern.clockrate")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c[0].Hz, "ticks a second")
}

func ExampleTree_Describe() {
	text, err := sysctl.Host().Describe("net.bpf.zerocopy_enable")
	fmt.Println(text, err)
}

func ExampleTree_Format() {
	t, _ := machine()
	f, err := t.Format("net.bpf.bufsize")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(f.Type, f.ReadOnly(), f.Tunable())
	// Output: int false false
}
