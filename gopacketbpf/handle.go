package gopacketbpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	xbpf "golang.org/x/net/bpf"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/bpf"
)

// A Handle reads packets from a [bpf.Reader] for gopacket. Its methods have the names that they
// have in gopacket's packages pcap, afpacket and pcapgo.
//
// One goroutine at a time reads: ReadPacketData, ReadPacketDataTo and ZeroCopyReadPacketData. Any
// goroutine may call the other methods. The Reader may still be used, for example for its deadline,
// its mode and its direction.
type Handle struct {
	r    *bpf.Reader
	ctx  context.Context
	over atomic.Bool // final is set

	mu        sync.Mutex
	final     error // ended the capture
	corrupt   error // the first
	corrupted int
}

var (
	_ gopacket.PacketDataSource         = (*Handle)(nil)
	_ gopacket.ZeroCopyPacketDataSource = (*Handle)(nil)
	_ io.Closer                         = (*Handle)(nil)
)

// New returns a Handle that reads from r until ctx is done. [Handle.Close] closes r.
//
// When ctx is done, reads deliver the packets that the kernel has by then, at most two buffers,
// even if more packets arrive.
func New(ctx context.Context, r *bpf.Reader) *Handle {
	return &Handle{r: r, ctx: ctx}
}

// ReadPacketData waits for the next packet and returns a copy of it.
//
// Errors:
//   - io.EOF: the capture is over. [Handle.Err] says why.
//   - [bpf.ErrCorrupt]: a buffer is corrupt. The next read goes on with the next buffer.
//   - [os.ErrDeadlineExceeded]: the time of [bpf.Reader.SetReadDeadline] has passed.
//   - [bpf.ErrLeaseOut]: somebody else is reading.
func (h *Handle) ReadPacketData() (data []byte, ci gopacket.CaptureInfo, err error) {
	if h.over.Load() {
		return nil, gopacket.CaptureInfo{}, io.EOF
	}
	data, info, err := h.r.ReadPacket(h.ctx)
	if err != nil {
		return nil, ci, h.failed(err)
	}
	describe(&ci, len(data), &info)
	return data, ci, nil
}

// ZeroCopyReadPacketData waits for the next packet and returns it without copying. data is valid
// until the next read. That read gives the memory back, also when it returns io.EOF.
//
// Errors: those of [Handle.ReadPacketData].
func (h *Handle) ZeroCopyReadPacketData() (data []byte, ci gopacket.CaptureInfo, err error) {
	if h.over.Load() {
		return nil, gopacket.CaptureInfo{}, io.EOF
	}
	data, info, err := h.r.ReadSlice(h.ctx)
	if err != nil {
		return nil, ci, h.failed(err)
	}
	describe(&ci, len(data), &info)
	return data, ci, nil
}

// ReadPacketDataTo waits for the next packet and copies it into data. If data is shorter than the
// packet, ReadPacketDataTo drops the rest. ci.CaptureLength is the number of bytes in data.
//
// Errors: those of [Handle.ReadPacketData].
func (h *Handle) ReadPacketDataTo(data []byte) (ci gopacket.CaptureInfo, err error) {
	if h.over.Load() {
		return gopacket.CaptureInfo{}, io.EOF
	}
	n, info, err := h.r.ReadInto(h.ctx, data)
	if err != nil {
		return ci, h.failed(err)
	}
	describe(&ci, n, &info)
	return ci, nil
}

// describe fills in the empty description of a packet of which n bytes were read. A CaptureInfo has
// 96 bytes, so nobody copies it.
func describe(ci *gopacket.CaptureInfo, n int, info *bpf.Info) {
	ci.Timestamp, ci.CaptureLength = info.Time(), n
	ci.Length, ci.InterfaceIndex = info.WireLen(), info.InterfaceIndex()
}

// failed returns what a read returns for an error of the Reader, and keeps what Err returns.
func (h *Handle) failed(err error) error {
	switch {
	case h.ctx.Err() != nil && errors.Is(err, context.Cause(h.ctx)):
		// whatever cause the program has given
	case errors.Is(err, bpf.ErrCorrupt):
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.corrupted++; h.corrupted == 1 {
			h.corrupt = err
		}
		return err
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, bpf.ErrLeaseOut):
		return err
	}
	h.end(err)
	return io.EOF
}

func (h *Handle) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.final = err
	h.over.Store(true)
}

// Err returns nil as long as the capture goes on without a fault. When a read has returned io.EOF,
// Err returns the error that ended the capture:
//   - [os.ErrClosed] after Close.
//   - [bpf.ErrInterfaceGone] when the interface was destroyed or moved to another vnet.
//   - context.Cause(ctx) when the context is done.
//   - Any other error of [bpf.Reader.Lease].
//
// If buffers were corrupt, errors.Is finds [bpf.ErrCorrupt] in the error of Err as well, also
// before the end. So look for it first. Any goroutine may call Err.
func (h *Handle) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.corrupted == 0 {
		return h.final
	}
	return errors.Join(fmt.Errorf("gopacketbpf: %d corrupt, the first: %w", h.corrupted, h.corrupt),
		h.final)
}

// LinkType returns the LINKTYPE_ number of the packets. It is the decoder that
// gopacket.NewPacketSource wants, and what pcapgo writes into files. FreeBSD has other numbers for
// some link types: DLT_RAW is 12, and LINKTYPE_RAW is 101.
func (h *Handle) LinkType() layers.LinkType {
	return layers.LinkType(zbuf.DLTToLinkType(h.r.LinkType()))
}

// Stats returns the counters of the Reader. Received and Dropped are those that pcap calls
// PacketsReceived and PacketsDropped.
//
// Errors: those of [bpf.Reader.Stats].
func (h *Handle) Stats() (bpf.Stats, error) { return h.r.Stats() }

// SetBPF replaces the filter, and discards every packet that was captured and not read. So no
// packet that the old filter passed comes after it. nil passes every packet.
//
// Errors: those of [bpf.Reader.SetFilter].
func (h *Handle) SetBPF(filter []xbpf.RawInstruction) error { return h.r.SetFilter(filter, true) }

// SetBPFFilter does the same as [Handle.SetBPF] with an expression of pcap-filter(7). "" passes
// every packet. With [bpf.Config].Expression the expression is in force before the first packet.
//
// Errors: those of [bpf.Reader.SetExpression].
func (h *Handle) SetBPFFilter(expression string) error {
	return h.r.SetExpression(expression, true)
}

// WritePacketData sends one packet, link header included, out of the interface. The kernel fills in
// the source address, unless [bpf.Config].HeaderComplete is set.
//
// Errors: those of [bpf.Reader.Write].
func (h *Handle) WritePacketData(data []byte) error {
	_, err := h.r.Write(data)
	return err
}

// Close closes the Reader. A read under way returns io.EOF. The second Close returns nil.
func (h *Handle) Close() error { return h.r.Close() }
