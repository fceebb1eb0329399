package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/zbuf-go/zbuf"
	"github.com/zbuf-go/zbuf/internal/lab"
)

// masked is records without their time stamps, if any, and without their padding: in
// read(2) mode that is whatever the kernel's memory held.
func masked(data []byte, stamped bool) []byte {
	data = slices.Clone(data)
	for off := 0; off+hdrlen <= len(data); {
		if stamped {
			clear(data[off : off+16])
		}
		caplen := int(binary.NativeEndian.Uint32(data[off+16:]))
		header := int(binary.NativeEndian.Uint16(data[off+24:]))
		end := off + header + caplen
		if end <= off || end > len(data) {
			break
		}
		next := min(roundUp(end, align), len(data))
		clear(data[end:next])
		off = next
	}
	return data
}

// view is everything that can be seen without a request on a descriptor.
type view struct {
	listeners []zbuf.XbpfD // with the end of the wire as Ifname
	headers   [][3]uint32
	mem       [][]byte // what of the lent memory is to be compared
}

// stats reads net.bpf.stats: the listeners at A, then those at B.
func (s *side) stats() (out []zbuf.XbpfD, err error) {
	all, err := s.w.Listeners()
	if err != nil {
		return nil, err
	}
	for i, ifname := range []string{s.p.A, s.p.B} {
		for _, x := range all {
			if string(bytes.TrimRight(x.Ifname[:], "\x00")) == ifname {
				x.Ifname = [zbuf.IFNAMSIZ]byte{"AB"[i]}
				out = append(out, x)
			}
		}
	}
	return out, nil
}

// seen is how many packets have passed each end, as the pair's own descriptor
// counted them: the oldest there, so the last.
func seen(list []zbuf.XbpfD) (n [2]uint64) {
	for _, x := range list {
		n[x.Ifname[0]-'A'] = x.Rcount
	}
	return n
}

func (s *side) view(list []zbuf.XbpfD) view {
	v := view{listeners: list}
	for _, st := range s.seat {
		if st == nil || !st.lent {
			continue
		}
		for j, b := range st.buf {
			h := lab.HeaderOf(b)
			gen := h.KernelGen.Load()
			v.headers = append(v.headers, [3]uint32{gen, h.KernelLen.Load(), h.UserGen.Load()})
			switch {
			case !s.stamped:
				v.mem = append(v.mem, b)
			case gen != st.gens[j]:
				st.gens[j] = gen
				if gen == h.UserGen.Load() {
					break // acknowledged before it was assigned: what is in it by now may be from different times
				}
				v.mem = append(v.mem, masked(b[32:][:min(int(h.KernelLen.Load()), len(b)-32)], true))
			}
		}
	}
	return v
}

// unlike says how two views differ, or nothing.
func unlike(an string, a view, bn string, b view) string {
	for i := range max(len(a.listeners), len(b.listeners)) {
		if i >= len(a.listeners) || i >= len(b.listeners) || a.listeners[i] != b.listeners[i] {
			return fmt.Sprintf("\n%s: %+v\n%s: %+v", an, a.listeners[min(i, len(a.listeners)):], bn,
				b.listeners[min(i, len(b.listeners)):])
		}
	}
	if !slices.Equal(a.headers, b.headers) {
		return fmt.Sprintf("headers {kernel_gen, kernel_len, user_gen}: %s %v, %s %v", an, a.headers, bn,
			b.headers)
	}
	for i, m := range a.mem {
		if bytes.Equal(m, b.mem[i]) {
			continue
		}
		at := 0
		for at < min(len(m), len(b.mem[i])) && m[at] == b.mem[i][at] {
			at++
		}
		from := max(at-8, 0)
		return fmt.Sprintf("memory %d differs at byte %d (from %d on): %s %x, %s %x", i, at, from, an,
			clip(string(m[from:])), bn, clip(string(b.mem[i][from:])))
	}
	return ""
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
