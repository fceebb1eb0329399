package scenario

import (
	"context"
	"encoding/binary"
	"os"
	"reflect"
	"sync"
	"time"

	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
	"github.com/zbuf-go/zbuf/bpf/bpftest"
	"github.com/zbuf-go/zbuf/sysctl"
	"github.com/zbuf-go/zbuf/sysctl/sysctltest"
)

// actor is another program of a scenario, which captures on em0.
type actor struct {
	pid     int
	program string
	cfg     bpf.Config
	locked  bool
	lazy    bool // looks at its packets in two of five seconds only
}

// The buffer sizes tell the actors apart: see playbill.
var actors = []actor{
	{pid: 540, program: "dhclient", locked: true, cfg: bpf.Config{
		Mode: bpf.Buffered, BufferSize: 4 << 10, Immediate: true, Filter: refuseAll,
	}},
	{pid: 1033, program: "ids", lazy: true, cfg: bpf.Config{
		Mode: bpf.Buffered, BufferSize: 32 << 10, Promiscuous: true,
	}},
	{pid: 812, program: "flowd", cfg: bpf.Config{
		Mode: bpf.ZeroCopy, BufferSize: 512 << 10, Promiscuous: true,
	}},
}

var refuseAll = []xbpf.RawInstruction{{Op: 0x06}} // ret #0

// begin has the actor capture until ctx is done.
func (a actor) begin(ctx context.Context, k *bpftest.Kernel, going *sync.WaitGroup) error {
	cfg := a.cfg
	cfg.System = k
	r, err := bpf.Open("em0", cfg)
	if err != nil {
		return err
	}
	if a.locked {
		if err := r.Sandbox(bpf.Sandbox{Write: true}); err != nil {
			r.Close()
			return err
		}
	}
	going.Go(func() {
		defer r.Close()
		began := time.Now()
		for {
			l, err := r.Lease(ctx)
			if err != nil {
				return
			}
			l.Release()
			if rest := 5*time.Second - time.Since(began)%(5*time.Second); a.lazy && rest < 3*time.Second {
				select {
				case <-time.After(rest):
				case <-ctx.Done():
				}
			}
		}
	})
	return nil
}

// Sysctls returns the sysctls of a machine whose kernel is k.
func Sysctls(k *bpftest.Kernel) sysctl.Tree { return sysctls(k, nil) }

// sysctls returns the sysctls of a machine on which the actors' programs run.
func sysctls(k *bpftest.Kernel, actors []actor) sysctl.Tree {
	value := func(name string, n uint32) sysctltest.Var {
		return sysctltest.Value(name, sysctl.CTLTYPE_INT, sysctl.CTLFLAG_RD, "I",
			binary.NativeEndian.AppendUint32(nil, n))
	}
	text := func(name, s string) sysctltest.Var {
		return sysctltest.Value(name, sysctl.CTLTYPE_STRING, sysctl.CTLFLAG_RD, "A", append([]byte(s), 0))
	}
	return sysctl.New(sysctltest.New(append(sysctltest.BPF(playbill{k, actors}),
		text("kern.ostype", "FreeBSD"), text("kern.osrelease", "12.1-RELEASE"),
		value("kern.osreldate", 1201000),
		text("hw.machine_arch", "amd64"), value("hw.pagesize", uint32(k.PageSize())),
		value("kern.hz", 1000),
		value("security.jail.jailed", 0), value("kern.features.security_capabilities", 1),
		sysctltest.Processes(func(pid int) (string, bool) {
			for _, a := range actors {
				if a.pid == pid {
					return a.program, true
				}
			}
			return "bpfctl", pid == os.Getpid()
		}),
	)...))
}

// playbill shows the listeners of a model, all of which are this process's, as the actors': who has
// a buffer of an actor's size plays it.
type playbill struct {
	*bpftest.Kernel
	actors []actor
}

func (p playbill) ReadSysctl(name string, b []byte) (int, error) {
	n, err := p.Kernel.ReadSysctl(name, b)
	if name != "net.bpf.stats" || b == nil || err != nil {
		return n, err
	}
	field := func(entry []byte, name string) []byte {
		f, _ := reflect.TypeFor[zbuf.XbpfD]().FieldByName(name)
		return entry[f.Offset:]
	}
	for rest := b[:n]; len(rest) > 0; {
		entry := rest[:binary.NativeEndian.Uint32(rest)]
		size := int(binary.NativeEndian.Uint32(field(entry, "Bufsize")))
		for _, a := range p.actors {
			if size == a.cfg.BufferSize || size == a.cfg.BufferSize-zbuf.SizeofZbufHeader {
				binary.NativeEndian.PutUint32(field(entry, "Pid"), uint32(a.pid))
			}
		}
		rest = rest[len(entry):]
	}
	return n, nil
}
