package merge_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/bpf/merge"
)

// Two interfaces in one loop. The packet of em1 was captured first, but is delivered last.
func ExampleMerger_Packets() {
	k := bpftest.New() // leave Config.System out to use the running kernel
	var readers []*bpf.Reader
	for _, name := range []string{"em0", "em1"} {
		k.AddInterface(name, zbuf.DLT_EN10MB)
		r, err := bpf.Open(name, bpf.Config{System: k, Immediate: true})
		if err != nil {
			log.Fatal(err)
		}
		defer r.Close()
		readers = append(readers, r)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	k.Interface("em0").ReceiveAt(at.Add(2*time.Second), make([]byte, 60), 60)
	k.Interface("em1").ReceiveAt(at.Add(1*time.Second), make([]byte, 90), 90)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m := merge.New(10*time.Second, readers...) // 100 ms suit a program that shows packets live
	for p, err := range m.Packets(ctx) {
		switch {
		case errors.Is(err, context.Canceled):
			fmt.Println(err) // the loop is over
		case err != nil:
			log.Print(err) // the other interfaces go on
		default:
			fmt.Println(readers[p.Reader].Interface(), p.Time.UTC().Format(time.TimeOnly), len(p.Data))
			cancel() // what was captured still comes
		}
	}
	fmt.Println(m.Late(), "late")
	// Output:
	// em1 03:04:06 90
	// em0 03:04:07 60
	// context canceled
	// 0 late
}
