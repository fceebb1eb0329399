package filter

import "strings"

// keywords has the words of the language. A backslash before one makes it a name.
var keywords = func() map[string]bool {
	m := map[string]bool{}
	for _, list := range []string{
		"src dst and or not host net mask port portrange proto protochain gateway",
		"ether link ppp slip fddi tr wlan radio ip ip6 arp rarp tcp udp sctp icmp icmp6 igmp igrp",
		"pim vrrp carp ah esp atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is clnp",
		"stp ipx netbeui l1 l2 iih lsp snp csnp psnp less greater byte broadcast multicast len length",
		"inbound outbound vlan mpls pppoed pppoes geneve vxlan llc type subtype dir direction ra ta",
		"addr1 addr2 addr3 addr4 address1 address2 address3 address4 ifname on rset ruleset rnr",
		"rulenum srnr subrulenum reason action lane metac bcc sc ilmic oam oamf4 oamf4ec oamf4sc",
		"oamf4e oamf4s vpi vci connectmsg metaconnect fisu lssu lsssu msu sio opc dpc sls hfisu",
		"hlssu hmsu hsio hopc hdpc hsls",
	} {
		for _, w := range strings.Fields(list) {
			m[w] = true
		}
	}
	for w := range namedNumbers {
		m[w] = true
	}
	return m
}()

// namedNumbers are the words of the language that stand for a number in arithmetic.
var namedNumbers = map[string]uint32{
	"icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1, "tcpflags": 13,

	"tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32,
	"tcp-ece": 64, "tcp-cwr": 128,

	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5,
	"icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11,
	"icmp-paramprob": 12, "icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15,
	"icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,

	"icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129,
	"icmp6-multicastlistenerquery": 130, "icmp6-multicastlistenerreportv1": 131,
	"icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133, "icmp6-routeradvert": 134,
	"icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-routerrenum": 138, "icmp6-nodeinformationquery": 139,
	"icmp6-nodeinformationresponse": 140, "icmp6-ineighbordiscoverysolicit": 141,
	"icmp6-ineighbordiscoveryadvert": 142, "icmp6-multicastlistenerreportv2": 143,
	"icmp6-homeagentdiscoveryrequest": 144, "icmp6-homeagentdiscoveryreply": 145,
	"icmp6-mobileprefixsolicit": 146, "icmp6-mobileprefixadvert": 147,
	"icmp6-certpathsolicit": 148, "icmp6-certpathadvert": 149,
	"icmp6-multicastrouteradvert": 151, "icmp6-multicastroutersolicit": 152,
	"icmp6-multicastrouterterm": 153,
}
