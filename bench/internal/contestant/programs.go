package contestant

// Program is a contestant that is a program: it does not run in the process of a trial.
type Program struct {
	Name string // of the contestant
	File string // of the program, in the folder of programs
	Loop string // its first argument: the way to read
	Lent bool   // with lent buffers; else libpcap takes read(2)
}

// Programs are the contestants that use libpcap, and the bare loop in C. Their sources are
// c/contest.c and cgo/main.go.
//
// libpcap does not let a program choose between lent buffers and read(2). It lends buffers if it
// was built for that and the kernel allows it.
var Programs = []Program{
	{Name: "libpcap", File: "contest", Loop: "pcap_loop"},
	{Name: "libpcap-next", File: "contest", Loop: "pcap_next_ex"},
	{Name: "libpcap-zc", File: "contest", Loop: "pcap_loop", Lent: true},
	{Name: "libpcap-zc-next", File: "contest", Loop: "pcap_next_ex", Lent: true},
	{Name: "cgo-libpcap", File: "cgo", Loop: "gopacket"},
	{Name: "cgo-libpcap-zc", File: "cgo", Loop: "gopacket", Lent: true},
	{Name: "bare-c", File: "contest", Loop: "bare", Lent: true},
}

// ProgramOf returns the program that is a contestant. ok is false if it is none.
func ProgramOf(name string) (p Program, ok bool) {
	for _, p := range Programs {
		if p.Name == name {
			return p, true
		}
	}
	return Program{}, false
}

// All returns the names of all contestants.
func All() []string {
	all := append([]string(nil), Names...)
	for _, p := range Programs {
		all = append(all, p.Name)
	}
	return all
}
