package decode

import (
	"fmt"
	"strings"
)

var flagLetters = map[string]string{
	"fin": "F", "syn": "S", "rst": "R", "psh": "P", "ack": ".", "urg": "U", "ece": "E", "cwr": "W",
	"ae": "e",
}

// tcp writes a TCP segment in the form that tcpdump -S made known.
func (l *line) tcp(s *Summary) {
	t := s.Transport
	if t.Seq == nil { // only the ports are there
		l.put(Protocol, "TCP")
		return
	}
	flags, part := "", Plain
	numbered := t.Length > 0
	for _, f := range t.Flags {
		flags += flagLetters[f]
		numbered = numbered || f == "syn" || f == "fin" || f == "rst"
		if f == "rst" {
			part = Alarm
		}
	}
	if flags == "" {
		flags = "none"
	}
	l.add("Flags ")
	l.put(part, fmt.Sprintf("[%s]", flags))
	if numbered {
		l.add(", seq %d", *t.Seq)
		if t.Length > 0 {
			l.add(":%d", *t.Seq+uint32(t.Length))
		}
	}
	if t.Ack != nil {
		l.add(", ack %d", *t.Ack)
	}
	l.add(", win %d", *t.Window)
	if t.Urgent != 0 {
		l.add(", urg %d", t.Urgent)
	}
	if len(t.Options) > 0 {
		l.add(", options [%s]", strings.Join(t.Options, ","))
	}
	l.add(", length %d", t.Length)
	switch {
	case s.TLS != nil:
		l.add(": ")
		l.tls(s.TLS)
	case s.DNS != nil:
		l.add(": ")
		l.dns(s.DNS)
	}
}

func (l *line) tls(t *TLS) {
	l.put(Protocol, t.Version)
	if t.Message == "client_hello" {
		l.add(" ClientHello")
	} else {
		l.add(" ServerHello")
	}
	if t.SNI != "" {
		l.add(" for ")
		l.put(Name, t.SNI)
	}
	if len(t.ALPN) > 0 {
		l.add(" (%s)", strings.Join(t.ALPN, ","))
	}
}

// icmp writes an ICMP message, and of which packet it speaks.
func (l *line) icmp(s *Summary) {
	m := s.ICMP
	if s.Network.Protocol == "ipv6" {
		l.put(Protocol, "ICMP6")
		l.add(", ")
	} else {
		l.put(Protocol, "ICMP")
		l.add(" ")
	}
	part := Plain
	if s.Inner != nil {
		part = Alarm
	}
	l.put(part, m.Message)
	if m.ID != nil {
		l.add(", id %d, seq %d", *m.ID, *m.Seq)
	}
	if m.Target != nil {
		said := map[uint8]string{135: "who has", 136: "tgt is"}[m.Type]
		if said == "" || s.Network.Protocol == "ipv4" {
			said = "to"
		}
		l.add(", %s ", said)
		l.put(Name, m.Target.String())
	}
	if m.MTU != 0 {
		l.add(", mtu %d", m.MTU)
	}
	if len(m.Prefixes) > 0 {
		l.add(", prefix %s", strings.Join(m.Prefixes, " "))
	}
	if len(m.MAC) > 0 && l.Verbose > 0 {
		l.add(", mac %s", m.MAC)
	}
	if s.IGMP != nil {
		l.groups(s.IGMP)
	}
	if i := s.Inner; i != nil && i.Network != nil {
		l.add(" [")
		l.flow(i)
		l.add(" %s]", protocolName(i))
	}
	l.add(", length %d", m.Length)
}

func (l *line) groups(g *IGMP) {
	for _, a := range g.Groups {
		l.add(" %s", a)
	}
}

// dns writes a message: what is asked, and what the answer is.
func (l *line) dns(d *DNS) {
	l.add("%d", d.ID)
	if d.Opcode != "query" {
		l.add(" %s", d.Opcode)
	}
	if d.Response {
		if d.Rcode != "NoError" {
			l.add(" ")
			l.put(Alarm, d.Rcode)
		}
		l.add("%s%s%s", d.mark("aa", "*", ""), d.mark("ra", "", "-"), d.mark("tc", "|", ""))
		if d.mark("ad", "$", "") != "" {
			l.add("$")
		}
	} else {
		l.add("%s", d.mark("rd", "+", ""))
		if d.Additionals > 0 {
			l.add(" [%dau]", d.Additionals)
		}
	}
	for _, q := range d.Questions {
		l.add(" %s? ", q.Type)
		l.put(Name, q.Name)
	}
	if d.Response {
		l.add(" %d/%d/%d", d.AnswerCount, d.Authorities, d.Additionals)
	}
	for i, r := range d.Answers {
		if i > 0 {
			l.add(",")
		}
		if l.Verbose > 0 {
			l.add(" ")
			l.put(Name, r.Name)
			l.add(" [%ds]", r.TTL)
		}
		l.add(" %s", r.Type)
		if r.Data != "" {
			l.add(" %s", r.Data)
		}
	}
	if d.AnswerCount > len(d.Answers) {
		l.add(", ...")
	}
	l.add(" (%d)", d.Length)
}

// mark returns set if the message has a flag, and otherwise unset.
func (d *DNS) mark(flag, set, unset string) string {
	for _, f := range d.Flags {
		if f == flag {
			return set
		}
	}
	return unset
}

func (l *line) dhcp(d *DHCP) {
	part := Plain
	if d.Message == "Nak" || d.Message == "Decline" {
		part = Alarm
	}
	l.put(Protocol, map[int]string{4: "DHCP", 6: "DHCP6"}[d.Version])
	l.add(" ")
	l.put(part, d.Message)
	if len(d.MAC) > 0 {
		l.add(" from %s", d.MAC)
	}
	if d.Hostname != "" {
		l.add(" named ")
		l.put(Name, d.Hostname)
	}
	if d.Asked != nil {
		l.add(", asks for %s", d.Asked)
	}
	if d.Client != nil {
		l.add(", has %s", d.Client)
	}
	if d.Your != nil {
		l.add(", gets %s", d.Your)
	}
	if d.Server != nil {
		l.add(", server %s", d.Server)
	}
	if d.Lease != 0 {
		l.add(", lease %ds", d.Lease)
	}
	if l.Verbose > 0 {
		l.add(", xid %#x", d.XID)
	}
}
