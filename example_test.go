package zbuf_test

import (
	"fmt"
	"log"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
)

// The example shows the order of the calls, and one buffer's way to the process and back.
func Example() {
	k := bpftest.New(bpftest.WithSysctl("net.bpf.zerocopy_enable", 1))
	em0 := k.AddInterface("em0", zbuf.DLT_EN10MB)

	d, err := zbuf.OpenOn(k) // zbuf.Open() for the running kernel
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	if err := d.SetBufferMode(zbuf.BPF_BUFMODE_ZBUF); err != nil {
		log.Fatal(err)
	}
	bufs, err := d.SetBuffers(64 << 10)
	if err != nil {
		log.Fatal(err)
	}
	if err := d.SetTimestampType(zbuf.BPF_T_NANOTIME); err != nil { // records begin with an Xhdr
		log.Fatal(err)
	}
	if err := d.SetInterface("em0"); err != nil {
		log.Fatal(err)
	}
	em0.Receive(make([]byte, 60))

	if _, err := d.Rotate(); err != nil { // assign the store buffer
		log.Fatal(err)
	}
	records, gen, owned := bufs.A.Records()
	fmt.Println(len(records), gen, owned)
	bufs.A.Header().Acknowledge(gen)
	_, _, owned = bufs.A.Records()
	fmt.Println(owned)
	// Output:
	// 86 1 true
	// false
}
