// Package clients runs programs that others wrote on package packet: mdlayher/arp and
// insomniacslk/dhcp. It has nothing but tests. It is a separate module, so zbuf depends on none of
// them. In the top folder make clients runs them on every amd64 kernel.
//
// insomniacslk/dhcp does not compile for FreeBSD: it uses unix.ETH_P_IP, which x/sys has for Linux
// alone. Command prepare makes a build in which x/sys has one file more, which declares that
// constant. Every other file is the one in the module cache.
package clients
