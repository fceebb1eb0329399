// Package pcapio reads capture files (pcap and pcapng) and writes them, in whole blocks or packets.
package pcapio
