package decode

import "encoding/binary"

const (
	tlsHandshake = 22
	clientHello  = 1
	serverHello  = 2

	extensionSNI      = 0
	extensionALPN     = 16
	extensionVersions = 43
)

// bits is what is left of a message. A read behind its end returns nil, and so do all after it.
type bits []byte

func (b *bits) take(n int) []byte {
	if n > len(*b) {
		*b = nil
		return nil
	}
	t := (*b)[:n]
	*b = (*b)[n:]
	return t
}

// number reads a number of n bytes, at most 3.
func (b *bits) number(n int) (v int) {
	for _, x := range b.take(n) {
		v = v<<8 | int(x)
	}
	return v
}

// vector reads bytes behind their length, which has n bytes. It returns what is there of them. A
// hello is often longer than a packet, so gopacket's decoder, which wants all of it, finds no name.
func (b *bits) vector(n int) bits {
	size := b.number(n)
	return bits(b.take(min(size, len(*b))))
}

// tls decodes the first message of a client or a server, as far as it is there.
func (d *decoder) tls(p []byte) {
	b := bits(p)
	b.take(3) // type and version of the record
	record := b.vector(2)
	kind := record.number(1)
	if kind != clientHello && kind != serverHello {
		return
	}
	if !d.enter("tls") {
		return
	}
	hello := record.vector(3)
	t := &TLS{Message: "client_hello"}
	version := hello.number(2)
	hello.take(32) // random
	hello.vector(1)
	if kind == clientHello {
		hello.vector(2) // cipher suites
		hello.vector(1) // compression
	} else {
		t.Message = "server_hello"
		hello.take(3)
	}
	for extensions := hello.vector(2); len(extensions) > 0; {
		typ := extensions.number(2)
		e := extensions.vector(2)
		switch {
		case typ == extensionSNI && kind == clientHello:
			names := e.vector(2)
			if names.number(1) == 0 {
				t.SNI = text(names.take(names.number(2)))
			}
		case typ == extensionALPN:
			for names := e.vector(2); len(names) > 0; {
				if name := names.take(names.number(1)); name != nil {
					t.ALPN = append(t.ALPN, text(name))
				}
			}
		case typ == extensionVersions && kind == serverHello:
			version = e.number(2)
		case typ == extensionVersions:
			for all := e.vector(1); len(all) >= 2; {
				if v := binary.BigEndian.Uint16(all.take(2)); v>>8 == 3 { // not GREASE
					version = max(version, int(v))
				}
			}
		}
	}
	t.Version = name(uint8(version&0xff), "SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3")
	d.s.TLS = t
}
