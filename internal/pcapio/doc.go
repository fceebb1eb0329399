// Package pcapio reads capture files (pcap and pcapng) and writes pcapng, in whole blocks.
package pcapio
