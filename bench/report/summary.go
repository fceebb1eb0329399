package main

import (
	"fmt"
	"strings"
)

// yardsticks are what a user would take instead, in the words of the summary. Why zbuf loses stands
// behind the two that most users take.
var yardsticks = []struct{ reader, words string }{
	{"cgo-libpcap", "**Against libpcap through cgo** (gopacket/pcap)"},
	{"libpcap", "**Against tcpdump's way**, libpcap in C with read(2)"},
	{"libpcap-zc", "**Against libpcap in C with lent buffers**"},
	{"gopacket", "**Against gopacket's bsdbpf**, in Go with read(2)"},
}

// summaryLoads are the loads of the summary, in its order.
var summaryLoads = []string{"idle", "low", "mid", "full"}

// lease returns the result of zbuf-lease on the newest kernel.
func (d *data) lease(size, load string) *result {
	for _, r := range d.of("Contest") {
		if d.newest(r) && r.at["reader"] == "zbuf-lease" && r.at["size"] == size &&
			r.at["load"] == load {
			return r
		}
	}
	return nil
}

// ofLease returns the ratio of zbuf-lease's CPU time to that of another: of the cheapest runs, if
// that is a Go program too, else of the medians.
func (d *data) ofLease(size, load, reader string) (v float64, ok bool) {
	r := d.lease(size, load)
	if r == nil {
		return 0, false
	}
	unit := "cpu-us/s"
	if reader == "cgo-libpcap" || reader == "gopacket" {
		unit = "least-cpu-us/s"
	}
	return d.ratio(r, map[string]string{"reader": reader}, unit)
}

// summary says in a few lines against whom zbuf wins and loses.
func (d *data) summary(old string) string {
	low := d.lease("64", "low")
	if low == nil {
		if old == "" {
			return "Not measured.\n"
		}
		return old
	}
	var b strings.Builder
	b.WriteString(wrap("", "CPU of zbuf (lease) on "+name(low)+" beside others, when idle and at "+
		"100, 800 and 6400 packets of 64 bytes a second, and at 6400 of 1500 bytes:"))
	for i, y := range yardsticks {
		if i == 2 {
			b.WriteString(wrap("* ", d.why(low)))
		}
		b.WriteString(wrap("* ", y.words+": "+d.against1(y.reader)))
	}
	return b.String()
}

// name returns the name of the kernel of a result.
func name(r *result) string {
	if k := r.at[kernel]; k != "" {
		return k
	}
	return "a kernel that the run does not name"
}

// against1 says how much CPU lease takes beside another reader, and where that is more.
func (d *data) against1(reader string) string {
	var figures, dearer []string
	for _, l := range summaryLoads {
		v, ok := d.ofLease("64", l, reader)
		if !ok {
			figures = append(figures, "–")
			continue
		}
		figures = append(figures, number(v))
		if v > 1 {
			dearer = append(dearer, l)
		}
	}
	big, ok := d.ofLease("1500", "full", reader)
	last := "–"
	if ok {
		last = number(big)
		if big > 1 {
			dearer = append(dearer, "1500 bytes")
		}
	}
	verdict := "zbuf takes less each time"
	switch {
	case strings.Join(append(figures, last), "") == strings.Repeat("–", len(figures)+1):
		return "not measured."
	case len(dearer) > len(figures):
		verdict = "zbuf takes more each time"
	case len(dearer) > 0:
		verdict = "zbuf takes more at " + strings.Join(dearer, ", ")
	}
	return fmt.Sprintf("%s and %s times. So %s.", strings.Join(figures, ", "), last, verdict)
}

// why says what a second costs at the low rate in Go and in C, where waking up is most of the cost.
func (d *data) why(low *result) string {
	use := func(reader string) string {
		for _, run := range low.runs {
			if o := d.against(run, map[string]string{"reader": reader}); o != nil {
				if v, ok := o.values["cpu-us/s"]; ok {
					return number(v)
				}
			}
		}
		return "–"
	}
	return fmt.Sprintf("**Why**: it is waking up, in Go. At 100 packets a second zbuf takes %s µs of "+
		"CPU a second. The same bare loop takes %s in Go and %s in C.", use("zbuf-lease"), use("bare"),
		use("bare-c"))
}

// rates are the loads in the words of short.
var rates = map[string]string{"idle": "no packets", "low": "100", "mid": "800", "full": "6,400"}

// short is the summary for a page that has room for one paragraph. It has the loads that were
// measured.
func (d *data) short(old string) string {
	low := d.lease("64", "low")
	if low == nil {
		return old
	}
	var at []string
	figures := map[string][]string{}
	for _, l := range summaryLoads {
		if d.lease("64", l) == nil {
			continue
		}
		at = append(at, rates[l])
		for _, y := range yardsticks {
			text := "–"
			if v, ok := d.ofLease("64", l, y.reader); ok {
				text = number(v)
			}
			figures[y.reader] = append(figures[y.reader], text)
		}
	}
	const text = "**Beside libpcap**, at %s a second (of 64 bytes), zbuf takes %s times the CPU of " +
		"libpcap through cgo (gopacket/pcap). Beside a C program over libpcap with read(2), as tcpdump " +
		"is, it takes %s times, because waking up costs more in Go. Beside libpcap 1.10.6 with lent " +
		"buffers it takes %s times. The kernel was %s, in QEMU as above."
	return wrap("", fmt.Sprintf(text, list(at), list(figures["cgo-libpcap"]), list(figures["libpcap"]),
		list(figures["libpcap-zc"]), name(low)))
}

// list joins words.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// wrap breaks a text into lines of at most 100 characters. The first one begins with mark.
func wrap(mark, text string) string {
	const width = 100
	var b strings.Builder
	line, indent := mark, strings.Repeat(" ", len(mark))
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line += word
		case len([]rune(line))+1+len([]rune(word)) > width:
			b.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	return b.String() + line + "\n"
}
