package contestant

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/gopacket/gopacket/bsdbpf"
	pcap "github.com/packetcap/go-pcap"
	"golang.org/x/sys/unix"
)

func init() {
	openers["gopacket"] = openGopacket
	openers["go-pcap"] = openGoPcap
}

// gopacket is github.com/gopacket/gopacket/bsdbpf, the fork of google/gopacket that has
// maintainers. The file is the same in both.
type gopacket struct {
	stop
	*bsdbpf.BPFSniffer
}

func openGopacket(c Config) (Contestant, error) {
	opt := &bsdbpf.Options{ReadBufLen: c.Memory / 3, Immediate: c.Immediate, PreserveLinkAddr: true}
	if !c.Immediate {
		tv := syscall.NsecToTimeval(int64(c.Timeout))
		opt.Timeout = &tv
	}
	s, err := bsdbpf.NewBPFSniffer(c.Interface, opt)
	if err != nil {
		return nil, err
	}
	// It has no filters, and does not export its descriptor.
	fd, err := descriptor()
	if err == nil {
		err = setFilter(fd, unix.BIOCSETF, c.Filter)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &gopacket{BPFSniffer: s}, nil
}

// descriptor returns the only bpf descriptor of this process.
func descriptor() (int, error) {
	found := -1
	for fd := range 64 {
		var n uint32
		if ioctl(fd, unix.BIOCGBLEN, &n) == nil {
			if found >= 0 {
				return -1, fmt.Errorf("descriptors %d and %d are both bpf's", found, fd)
			}
			found = fd
		}
	}
	if found < 0 {
		return -1, errors.New("no bpf descriptor")
	}
	return found, nil
}

func (g *gopacket) Run(t *Tally) error {
	for !g.Load() {
		data, _, err := g.ReadPacketData()
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if len(data) > 0 { // it returns a packet of no bytes at a read timeout
			t.Packet(data)
		}
	}
	return nil
}

func (g *gopacket) Syscalls() (uint64, bool) { return 0, false }

// goPcap is github.com/packetcap/go-pcap. It is always in immediate mode, and takes the system's
// buffer size. It delivers the first packet of each read(2), and loses the others.
type goPcap struct {
	stop
	*pcap.Handle
}

func openGoPcap(c Config) (Contestant, error) {
	h, err := pcap.OpenLive(context.Background(), c.Interface, 65535, false, c.Timeout, true)
	if err != nil {
		return nil, err
	}
	if err := h.SetRawBPFFilter(c.Filter); err != nil {
		h.Close()
		return nil, err
	}
	return &goPcap{Handle: h}, nil
}

func (g *goPcap) Run(t *Tally) error {
	for !g.Load() {
		data, _, err := g.ReadPacketData()
		switch {
		case err == nil:
			t.Packet(data)
		case errors.Is(err, context.DeadlineExceeded), strings.Contains(err.Error(), "read no packets"):
		default:
			return err
		}
	}
	return nil
}

func (g *goPcap) Syscalls() (uint64, bool) { return 0, false }

func (g *goPcap) Close() error {
	g.Handle.Close()
	return nil
}
