package decode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gopacket/gopacket/layers"
)

const (
	firstEtherType = 0x600 // less is a length
	macLen         = 6
)

func mac(b []byte) MAC { return bytes.Clone(b) }

// strip takes n bytes of link headers from a packet.
func (d *decoder) strip(n int) {
	d.s.header += n
	d.s.length -= n
}

func (d *decoder) ethernet(p []byte) {
	l := &d.eth
	if !d.layer("ethernet", l, p) {
		return
	}
	d.s.Link = &Link{Src: mac(l.SrcMAC), Dst: mac(l.DstMAC), Type: uint16(l.EthernetType)}
	d.strip(len(l.Contents))
	if l.EthernetType == layers.EthernetTypeLLC {
		d.s.length = min(d.s.length, int(l.Length))
	}
	d.etherType(uint16(l.EthernetType), l.Payload)
}

// etherType decodes what follows an EtherType. Below 0x600 it is a length, and LLC follows.
func (d *decoder) etherType(t uint16, p []byte) {
	switch e := layers.EthernetType(t); {
	case t < firstEtherType:
		d.llc(p)
	case e == layers.EthernetTypeDot1Q || e == layers.EthernetTypeQinQ:
		d.vlan(p)
	case e == layers.EthernetTypeARP:
		d.arp(p)
	case e == layers.EthernetTypeIPv4 || e == layers.EthernetTypeIPv6:
		d.ip(p)
	case e == layers.EthernetTypeMPLSUnicast || e == layers.EthernetTypeMPLSMulticast:
		d.mpls(p)
	case e == layers.EthernetTypePPPoEDiscovery:
		d.enter("pppoe_discovery")
	case e == layers.EthernetTypePPPoESession:
		d.pppoe(p)
	case e == layers.EthernetTypeLinkLayerDiscovery:
		d.lldp(p)
	case e == layers.EthernetTypeEAPOL:
		d.enter("eapol")
	case e == layers.EthernetTypeTransparentEthernetBridging:
		d.inside(len(p), func() { d.ethernet(p) })
	}
}

func (d *decoder) vlan(p []byte) {
	l := &d.tags
	if !d.layer("vlan", l, p) {
		return
	}
	d.s.VLANs = append(d.s.VLANs, VLAN{
		ID: l.VLANIdentifier, Priority: l.Priority, DropEligible: l.DropEligible, typ: uint16(l.Type),
	})
	d.strip(len(l.Contents))
	d.etherType(uint16(l.Type), l.Payload)
}

func (d *decoder) llc(p []byte) {
	var l layers.LLC
	if !d.layer("llc", &l, p) {
		return
	}
	switch {
	case l.DSAP == 0xaa && l.SSAP == 0xaa:
		var s layers.SNAP
		if d.layer("snap", &s, l.Payload) {
			d.strip(len(l.Contents) + len(s.Contents))
			d.etherType(uint16(s.Type), s.Payload)
		}
	case l.DSAP == 0x42 && l.SSAP == 0x42:
		d.stp(l.Payload)
	}
}

// family decodes a packet behind an address family of four bytes. They are in the byte order of the
// machine that captured it, or in network order.
func (d *decoder) family(protocol string, p []byte) {
	if !d.enter(protocol) {
		return
	}
	if len(p) < 4 {
		d.fail(fmt.Errorf("%d bytes, the header has 4", len(p)))
		return
	}
	d.strip(4)
	af := binary.LittleEndian.Uint32(p)
	if af > 0xffff {
		af = binary.BigEndian.Uint32(p)
	}
	if !d.inet(af, p[4:]) {
		d.fail(fmt.Errorf("address family %d", af))
	}
}

// inet decodes an IP packet, if the address family is one of IP, on some system.
func (d *decoder) inet(family uint32, p []byte) bool {
	switch layers.ProtocolFamily(family) {
	case layers.ProtocolFamilyIPv4, layers.ProtocolFamilyIPv6BSD, layers.ProtocolFamilyIPv6FreeBSD,
		layers.ProtocolFamilyIPv6Darwin, layers.ProtocolFamilyIPv6Linux:
		d.ip(p)
		return family < 256
	}
	return false
}

// enc decodes a packet of enc(4): the address family, the SPI and flags come first.
func (d *decoder) enc(p []byte) {
	const header = 12
	if len(p) < header {
		d.now = "enc"
		d.fail(fmt.Errorf("%d bytes, the header has %d", len(p), header))
		return
	}
	d.strip(header - 4)
	d.family("enc", append(bytes.Clone(p[:4]), p[header:]...))
}

func (d *decoder) pflog(p []byte) {
	var l layers.PFLog
	if !d.layer("pflog", &l, p) {
		return
	}
	d.strip(len(l.Contents))
	f := &PFLog{
		Action: name(l.Action, "pass", "block", "scrub", "noscrub", "nat", "nonat", "binat", "nobinat",
			"rdr", "nordr", "synproxy-drop", "defer", "match"),
		Reason: name(l.Reason, "match", "bad-offset", "fragment", "short", "normalize", "memory",
			"bad-timestamp", "congestion", "ip-option", "proto-cksum", "state-mismatch", "state-insert",
			"state-limit", "src-limit", "synproxy", "map-failed"),
		Direction: name(uint8(l.Direction), "inout", "in", "out"),
		Interface: cString(l.IFName), Rule: l.RuleNum, Ruleset: cString(l.Ruleset), reason: l.Reason,
	}
	if l.SubruleNum != 1<<32-1 {
		f.Subrule = &l.SubruleNum
	}
	d.s.PFLog = f
	if !d.inet(uint32(l.Family), l.Payload) {
		d.fail(fmt.Errorf("address family %d", l.Family))
	}
}

// name returns the name of a small number.
func name[T ~uint8 | ~uint16](n T, names ...string) string {
	if int(n) < len(names) && names[n] != "" {
		return names[n]
	}
	return fmt.Sprint(n)
}

// cString returns the text before the first byte 0.
func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return text(b)
}

func (d *decoder) ppp(p []byte) {
	l, ok := d.other("ppp", layers.LayerTypePPP, p).(*layers.PPP)
	if !ok {
		return
	}
	d.strip(len(p) - len(l.Payload))
	switch l.PPPType {
	case layers.PPPTypeIPv4, layers.PPPTypeIPv6:
		d.ip(l.Payload)
	case layers.PPPTypeMPLSUnicast, layers.PPPTypeMPLSMulticast:
		d.mpls(l.Payload)
	}
}

func (d *decoder) pppoe(p []byte) {
	l, ok := d.other("pppoe", layers.LayerTypePPPoE, p).(*layers.PPPoE)
	if !ok {
		return
	}
	d.strip(len(l.Contents))
	d.s.length = min(d.s.length, int(l.Length))
	d.ppp(l.Payload)
}

// hdlc decodes Cisco's framing: two bytes, and an EtherType.
func (d *decoder) hdlc(p []byte) {
	const header = 4
	if !d.enter("c_hdlc") {
		return
	}
	if len(p) < header {
		d.fail(fmt.Errorf("%d bytes, the header has %d", len(p), header))
		return
	}
	d.strip(header)
	d.etherType(binary.BigEndian.Uint16(p[2:]), p[header:])
}

func (d *decoder) sll(p []byte) {
	var l layers.LinuxSLL
	if !d.layer("sll", &l, p) {
		return
	}
	d.strip(len(l.Contents))
	d.s.Link = &Link{Src: mac(l.Addr), Type: uint16(l.EthernetType)}
	d.etherType(uint16(l.EthernetType), l.Payload)
}

func (d *decoder) mpls(p []byte) {
	for {
		l, ok := d.other("mpls", layers.LayerTypeMPLS, p).(*layers.MPLS)
		if !ok {
			return
		}
		d.strip(len(l.Contents))
		if p = l.Payload; l.StackBottom {
			break
		}
	}
	if len(p) > 0 && (p[0]>>4 == 4 || p[0]>>4 == 6) { // nothing else says what follows
		d.ip(p)
	}
}

func (d *decoder) arp(p []byte) {
	var l layers.ARP
	if !d.layer("arp", &l, p) {
		return
	}
	a := &ARP{SenderMAC: mac(l.SourceHwAddress), TargetMAC: mac(l.DstHwAddress)}
	a.Operation = name(l.Operation, "", "request", "reply", "reverse-request", "reverse-reply", "", "",
		"", "inverse-request", "inverse-reply")
	a.Sender, a.Target = address(l.SourceProtAddress), address(l.DstProtAddress)
	d.s.ARP = a
}

func (d *decoder) stp(p []byte) {
	const config, tcn, rapid = 0, 0x80, 2
	if len(p) >= 4 && p[3] == tcn { // has no more
		if d.enter("stp") {
			d.s.STP = &STP{Version: stpVersion(p[2]), Message: "topology change", TopologyChange: true}
		}
		return
	}
	var l layers.STP
	if !d.layer("stp", &l, p) {
		return
	}
	bridge := func(id layers.STPSwitchID) string {
		return fmt.Sprintf("%04x.%s", id.Priority|id.SysID, id.HwAddr)
	}
	d.s.STP = &STP{
		Version: stpVersion(l.Version), Message: name(l.Type, "config", "", "rapid"),
		Root: bridge(l.RouteID), Bridge: bridge(l.BridgeID), Port: l.PortID, Cost: l.Cost,
		TopologyChange: l.TC,
	}
}

func stpVersion(v uint8) string { return name(v, "802.1d", "", "802.1w", "802.1s") }

func (d *decoder) lldp(p []byte) {
	l, ok := d.other("lldp", layers.LayerTypeLinkLayerDiscovery, p).(*layers.LinkLayerDiscovery)
	if !ok {
		return
	}
	id := func(isMAC bool, b []byte) string {
		if isMAC && len(b) == macLen {
			return mac(b).String()
		}
		return text(b)
	}
	d.s.LLDP = &LLDP{
		Chassis: id(l.ChassisID.Subtype == layers.LLDPChassisIDSubTypeMACAddr, l.ChassisID.ID),
		Port:    id(l.PortID.Subtype == layers.LLDPPortIDSubtypeMACAddr, l.PortID.ID),
		TTL:     l.TTL,
	}
	for _, v := range l.Values {
		if v.Type == layers.LLDPTLVSysName {
			d.s.LLDP.System = text(v.Value)
		}
	}
}

func (d *decoder) radiotap(p []byte) {
	var l layers.RadioTap
	if !d.layer("radiotap", &l, bytes.Clone(p)) { // gopacket moves bytes in it
		return
	}
	d.strip(int(l.Length))
	d.wlanWithFCS(l.Payload) // gopacket has added one if there was none
}

// wlan decodes an 802.11 frame without a checksum at its end. gopacket wants one.
func (d *decoder) wlan(p []byte) { d.wlanWithFCS(append(bytes.Clone(p), 0, 0, 0, 0)) }

// wlanWithFCS decodes an 802.11 frame with a checksum at its end.
func (d *decoder) wlanWithFCS(p []byte) {
	var l layers.Dot11
	if !d.layer("802.11", &l, p) {
		return
	}
	w := &WLAN{
		Type: wlanType(l.Type), Receiver: mac(l.Address1), Sender: mac(l.Address2),
		Third: mac(l.Address3), Protected: l.Flags.WEP(),
	}
	d.s.WLAN = w
	d.strip(len(l.Contents))
	fixed := map[layers.Dot11Type]int{ // bytes before the information elements
		layers.Dot11TypeMgmtBeacon: 12, layers.Dot11TypeMgmtProbeResp: 12,
		layers.Dot11TypeMgmtProbeReq: 0, layers.Dot11TypeMgmtAssociationReq: 4,
		layers.Dot11TypeMgmtReassociationReq: 10,
	}
	before, named := fixed[l.Type]
	switch {
	case named && !w.Protected && len(l.Payload) >= before:
		w.SSID = ssid(l.Payload[before:])
	case l.DataLayer != nil && !w.Protected:
		if b := l.DataLayer.LayerPayload(); len(b) > 0 {
			d.llc(b)
		}
	}
}

func wlanType(t layers.Dot11Type) string {
	kinds := map[layers.Dot11Type]string{
		layers.Dot11TypeMgmtAssociationReq:    "association-request",
		layers.Dot11TypeMgmtAssociationResp:   "association-response",
		layers.Dot11TypeMgmtReassociationReq:  "reassociation-request",
		layers.Dot11TypeMgmtReassociationResp: "reassociation-response",
		layers.Dot11TypeMgmtProbeReq:          "probe-request",
		layers.Dot11TypeMgmtProbeResp:         "probe-response",
		layers.Dot11TypeMgmtBeacon:            "beacon",
		layers.Dot11TypeMgmtATIM:              "atim",
		layers.Dot11TypeMgmtDisassociation:    "disassociation",
		layers.Dot11TypeMgmtAuthentication:    "authentication",
		layers.Dot11TypeMgmtDeauthentication:  "deauthentication",
		layers.Dot11TypeMgmtAction:            "action",
		layers.Dot11TypeCtrlBlockAckReq:       "block-ack-request",
		layers.Dot11TypeCtrlBlockAck:          "block-ack",
		layers.Dot11TypeCtrlPowersavePoll:     "ps-poll",
		layers.Dot11TypeCtrlRTS:               "rts",
		layers.Dot11TypeCtrlCTS:               "cts",
		layers.Dot11TypeCtrlAck:               "ack",
	}
	if k, ok := kinds[t]; ok {
		return k
	}
	return name(uint8(t.MainType()), "management", "control", "data", "extension")
}

// ssid returns the name of the network, which is in the first information element of its kind.
func ssid(elements []byte) *string {
	for len(elements) > 0 {
		var e layers.Dot11InformationElement
		if e.DecodeFromBytes(elements, noFeedback{}) != nil {
			return nil
		}
		if e.ID == layers.Dot11InformationElementIDSSID {
			s := text(e.Info)
			return &s
		}
		elements = e.Payload
	}
	return nil
}

type noFeedback struct{}

func (noFeedback) SetTruncated() {}

var errVersion = errors.New("neither IPv4 nor IPv6")
