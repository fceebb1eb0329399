package contest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/zbuf-go/zbuf/bench/internal/child"
	"github.com/zbuf-go/zbuf/bpf"
)

// modeNames are by whether buffers are lent.
var modeNames = map[bool]string{true: "lent", false: "buffered"}

// besideVariable passes the besideSpec.
const besideVariable = "ZBUF_BESIDE"

type besideSpec struct {
	Situation, Interface string
	Mode                 bpf.Mode
	Timeout              time.Duration
	Buffer               int
}

// beside does in a situation what c/beside.c does with libpcap, and prints the same.
func beside(s besideSpec) error {
	if s.Situation == "other" { // it lives as long as the test
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	if s.Timeout == 0 {
		s.Timeout = bpf.NoTimeout
	}
	r, err := bpf.Open(s.Interface, bpf.Config{
		Mode: s.Mode, BufferSize: s.Buffer, ReadTimeout: s.Timeout,
	})
	if err != nil {
		return err
	}
	defer r.Close()
	if s.Situation == "nonblock" {
		r.SetReadDeadline(time.Unix(1, 0))
	}
	if s.Situation == "fork" {
		other, err := child.Command(besideVariable, besideSpec{Situation: "other"})
		if err != nil {
			return err
		}
		other.Stdin = os.Stdin
		if err := other.Start(); err != nil {
			return err
		}
	}
	mode, _ := r.Mode()
	fmt.Println("ready", modeNames[mode == bpf.ZeroCopy], "zbuf")
	line := func() { bufio.NewReader(os.Stdin).ReadString('\n') }
	switch s.Situation {
	case "breakloop":
		go func() {
			line()
			r.Close()
		}()
	case "drops":
		line()
		r.SetReadDeadline(time.Now().Add(time.Second))
	}
	for {
		l, err := r.Lease(context.Background())
		if err != nil {
			if s.Situation == "drops" {
				st, err := r.Stats()
				fmt.Println("end received", st.Received, "dropped", st.Dropped)
				return err
			}
			fmt.Println("end error:", err)
			return nil
		}
		for range l.Packets() {
			fmt.Println("packet")
		}
		l.Release()
	}
}
