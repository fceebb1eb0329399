package filter

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
)

// systemNames looks up ports and protocols where libpcap does: in /etc/services and /etc/protocols.
var systemNames = sync.OnceValue(func() Names {
	tcp, udp, protos := map[string]int{}, map[string]int{}, map[string]int{}
	fields("/etc/services", func(f []string) {
		port, proto, _ := strings.Cut(f[1], "/")
		n, err := strconv.Atoi(port)
		table := map[string]map[string]int{"tcp": tcp, "udp": udp}[proto]
		if err != nil || table == nil {
			return
		}
		for _, name := range append([]string{f[0]}, f[2:]...) {
			table[name] = n
		}
	})
	fields("/etc/protocols", func(f []string) {
		if n, err := strconv.Atoi(f[1]); err == nil {
			for _, name := range append([]string{f[0]}, f[2:]...) {
				protos[name] = n
			}
		}
	})
	return Names{
		Port: func(name string) (int, int, error) {
			a, okA := tcp[name]
			b, okB := udp[name]
			if !okA {
				a = -1
			}
			if !okB {
				b = -1
			}
			return a, b, nil
		},
		Proto: func(name string) (uint8, error) {
			if n, ok := protos[name]; ok {
				return uint8(n), nil
			}
			return 0, errors.New("not in /etc/protocols")
		},
	}
})

func fields(file string, use func([]string)) {
	b, err := os.ReadFile(file)
	if err != nil {
		return
	}
	for _, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) >= 2 {
			use(f)
		}
	}
}
