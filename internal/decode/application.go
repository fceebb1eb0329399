package decode

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/gopacket/gopacket/layers"
)

var rcodes = []string{"NoError", "FormErr", "ServFail", "NXDomain", "NotImp", "Refused", "YXDomain",
	"YXRRSet", "NXRRSet", "NotAuth", "NotZone"}

// dns decodes a message that has length bytes on the wire.
func (d *decoder) dns(p []byte, length int) {
	if !d.enter("dns") {
		return
	}
	var l layers.DNS
	err := l.DecodeFromBytes(p, d)
	if err != nil {
		d.fail(err)
		if len(p) < 12 {
			return
		}
	}
	m := &DNS{
		ID: l.ID, Response: l.QR, AnswerCount: int(l.ANCount), Authorities: int(l.NSCount),
		Additionals: int(l.ARCount),
		Opcode:      name(uint8(l.OpCode), "query", "iquery", "status", "", "notify", "update"),
		Length:      length,
	}
	if l.QR {
		m.Rcode = name(uint8(l.ResponseCode), rcodes...)
		if int(l.ResponseCode) >= len(rcodes) {
			m.Rcode = "RCODE" + m.Rcode
		}
	}
	for _, f := range []struct {
		set  bool
		name string
	}{{l.AA, "aa"}, {l.TC, "tc"}, {l.RD, "rd"}, {l.RA, "ra"}, {l.Z&2 != 0, "ad"}, {l.Z&1 != 0, "cd"}} {
		if f.set {
			m.Flags = append(m.Flags, f.name)
		}
	}
	for _, q := range l.Questions[:min(len(l.Questions), maxRecords)] {
		m.Questions = append(m.Questions, Question{Name: dnsName(q.Name), Type: dnsType(q.Type)})
	}
	for _, r := range l.Answers[:min(len(l.Answers), maxRecords)] {
		m.Answers = append(m.Answers, Record{
			Name: dnsName(r.Name), Type: dnsType(r.Type), TTL: r.TTL, Data: dnsData(r),
		})
	}
	d.s.DNS = m
}

func dnsName(b []byte) string { return text(b) + "." }

func dnsType(t layers.DNSType) string {
	if s := t.String(); s != "Unknown" {
		return s
	}
	if t == 255 {
		return "ANY"
	}
	return fmt.Sprint("TYPE", uint16(t))
}

// dnsData returns the data of the kinds of records that people look for.
func dnsData(r layers.DNSResourceRecord) string {
	switch r.Type {
	case layers.DNSTypeA, layers.DNSTypeAAAA:
		if a := address(r.IP); a.IsValid() {
			return a.String()
		}
	case layers.DNSTypeNS:
		return dnsName(r.NS)
	case layers.DNSTypeCNAME:
		return dnsName(r.CNAME)
	case layers.DNSTypePTR:
		return dnsName(r.PTR)
	case layers.DNSTypeMX:
		return fmt.Sprintf("%s %d", dnsName(r.MX.Name), r.MX.Preference)
	case layers.DNSTypeSRV:
		return fmt.Sprintf("%s:%d %d %d", dnsName(r.SRV.Name), r.SRV.Port, r.SRV.Priority, r.SRV.Weight)
	case layers.DNSTypeSOA:
		return dnsName(r.SOA.MName)
	case layers.DNSTypeTXT:
		var all []string
		for _, t := range r.TXTs {
			all = append(all, `"`+text(t)+`"`)
		}
		return strings.Join(all, " ")
	}
	return ""
}

var dhcpMessages = []string{"", "Discover", "Offer", "Request", "Decline", "Ack", "Nak", "Release",
	"Inform"}

func (d *decoder) dhcp(p []byte) {
	var l layers.DHCPv4
	if !d.layer("dhcp", &l, p) {
		return
	}
	m := &DHCP{
		Version: 4, Message: "BOOTP " + l.Operation.String(), XID: l.Xid, MAC: mac(l.ClientHWAddr),
	}
	if a := address(l.ClientIP); !a.IsUnspecified() {
		m.Client = &a
	}
	if a := address(l.YourClientIP); !a.IsUnspecified() {
		m.Your = &a
	}
	for _, o := range l.Options {
		a := address(o.Data)
		switch {
		case o.Type == layers.DHCPOptMessageType && len(o.Data) == 1:
			m.Message = name(o.Data[0], dhcpMessages...)
		case o.Type == layers.DHCPOptHostname:
			m.Hostname = text(o.Data)
		case o.Type == layers.DHCPOptRequestIP && a.IsValid():
			m.Asked = &a
		case o.Type == layers.DHCPOptServerID && a.IsValid():
			m.Server = &a
		case o.Type == layers.DHCPOptLeaseTime && len(o.Data) == 4:
			m.Lease = binary.BigEndian.Uint32(o.Data)
		}
	}
	d.s.DHCP = m
}

var dhcp6Messages = []string{"", "Solicit", "Advertise", "Request", "Confirm", "Renew", "Rebind",
	"Reply", "Release", "Decline", "Reconfigure", "Information-request", "Relay-forward",
	"Relay-reply"}

func (d *decoder) dhcp6(p []byte) {
	var l layers.DHCPv6
	if !d.layer("dhcp6", &l, p) {
		return
	}
	m := &DHCP{Version: 6, Message: name(uint8(l.MsgType), dhcp6Messages...)}
	if len(l.TransactionID) == 3 {
		m.XID = uint32(l.TransactionID[0])<<16 | uint32(binary.BigEndian.Uint16(l.TransactionID[1:]))
	}
	for _, o := range l.Options {
		if o.Code == layers.DHCPv6OptClientFQDN && len(o.Data) > 1 {
			m.Hostname = wireName(o.Data[1:])
		}
	}
	d.s.DHCP = m
}

// wireName returns a name whose labels have their lengths before them.
func wireName(b []byte) string {
	var labels []string
	for len(b) > 0 && b[0] > 0 && int(b[0]) < len(b) {
		labels = append(labels, text(b[1:1+b[0]]))
		b = b[1+b[0]:]
	}
	return strings.Join(labels, ".")
}
