// Standin replaces QEMU in tests. It plays a guest's console from the file that STANDIN names, and
// can speak as the guest's agent. A line of the file is
//
//	boot N         what follows is for the Nth start alone (counted beside the file)
//	say TEXT       print TEXT and a line's end
//	ask TEXT       print TEXT without one
//	typed TEXT     wait until TEXT and Enter are typed, echoing each byte
//	error TEXT     print TEXT to standard error
//	hang           do nothing for ever
//	leave PATH     as the agent: each program leaves a file of that name; {dir} is its working folder
//	forge T TEXT   as the agent: send a frame of type T before each program's end;
//	               TEXT is a Go string without its quotes
//	dies TEXT      as the agent: while the first program runs, print TEXT on the console
//	               and fall silent
//	agent          call the host as the agent and serve one program after another
//
// It ends after the last line. It writes its command line to a file with the same name and .args at
// the end.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/zbuf-go/zbuf/vmtest/internal/wire"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("QEMU emulator version 7.2.0 (stand-in)")
		return
	}
	if err := play(os.Getenv("STANDIN")); err != nil {
		log.Fatal("stand-in: ", err)
	}
}

// play runs the lines of the file.
func play(path string) error {
	script, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".args", []byte(strings.Join(os.Args[1:], "\n")+"\n"),
		0o644); err != nil {
		return err
	}
	start, err := count(path + ".count")
	if err != nil {
		return err
	}
	keyboard := bufio.NewReader(os.Stdin)
	mine := true
	var a agent
	for line := range strings.Lines(string(script)) {
		verb, text, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if verb == "boot" {
			mine = text == strconv.Itoa(start)
			continue
		}
		if !mine {
			continue
		}
		switch verb {
		case "say":
			fmt.Printf("%s\r\n", text)
		case "ask":
			fmt.Print(text)
		case "typed":
			err = typed(keyboard, text)
		case "error":
			fmt.Fprintln(os.Stderr, text)
		case "hang":
			rest()
		case "leave":
			a.files = append(a.files, text)
		case "forge":
			a.forged = append(a.forged, text)
		case "dies":
			a.dies = text
		case "agent":
			err = a.serve()
		case "":
		default:
			err = fmt.Errorf("%s: no such verb", verb)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rest does not return. The runtime would end a process that waits in select{} alone.
func rest() { time.Sleep(math.MaxInt64) }

// count adds one to the number in the file at path.
func count(path string) (int, error) {
	b, err := os.ReadFile(path)
	n := 0
	if err == nil {
		n, err = strconv.Atoi(string(b))
	} else if os.IsNotExist(err) {
		err = nil
	}
	if err != nil {
		return 0, err
	}
	n++
	return n, os.WriteFile(path, []byte(strconv.Itoa(n)), 0o644)
}

func typed(keyboard *bufio.Reader, want string) error {
	var got []byte
	for {
		c, err := keyboard.ReadByte()
		if err != nil {
			return fmt.Errorf("waiting for %q, got %q: %w", want, got, err)
		}
		if c == '\r' {
			fmt.Print("\r\n")
			break
		}
		fmt.Print(string(rune(c)))
		got = append(got, c)
	}
	if string(got) != want {
		return fmt.Errorf("typed %q, want %q", got, want)
	}
	return nil
}

// settings finds the agent's settings in the files that the machine got.
func settings() (s wire.Settings, err error) {
	for _, a := range os.Args[1:] {
		if i := strings.LastIndex(a, "file="); i >= 0 {
			a, _, _ = strings.Cut(a[i+len("file="):], ",")
		}
		b, err := os.ReadFile(a)
		if err != nil {
			continue
		}
		if at := bytes.Index(b, []byte(`{"Token":`)); at >= 0 {
			err := json.NewDecoder(bytes.NewReader(b[at:])).Decode(&s)
			return s, err
		}
	}
	return s, fmt.Errorf("no settings in the files of %q", os.Args)
}

// agent plays the guest's end of the protocol, with or without faults.
type agent struct {
	files, forged []string
	dies          string
}

// serve answers for each program that it ran and ended well.
func (a *agent) serve() error {
	s, err := settings()
	if err != nil {
		return err
	}
	nc, err := dial(s)
	if err != nil {
		return err
	}
	defer nc.Close()
	conn := wire.NewConn(bufio.NewReader(nc), nc)
	if err := conn.WriteJSON(wire.Hello, wire.Greeting{Version: wire.Version, Token: s.Token,
		Kernel: "stand-in"}); err != nil {
		return err
	}
	go func() {
		for range time.Tick(wire.AlivePeriod) {
			if conn.Write(wire.Alive, nil) != nil {
				return
			}
		}
	}()
	var run wire.RunRequest
	for {
		t, body, err := conn.Read()
		if err != nil {
			return nil // the host has gone, which is no failure
		}
		switch t {
		case wire.Run:
			if err := json.Unmarshal(body, &run); err != nil {
				return err
			}
		case wire.Start:
			text := fmt.Sprintf("asked to run %s %q, disk %s, modules %q %q\n",
				run.Path[strings.LastIndexByte(run.Path, '/')+1:], run.Args, s.Disk, s.Load, s.Required)
			if err := conn.Write(wire.Stdout, []byte(text)); err != nil {
				return err
			}
			if a.dies != "" {
				fmt.Printf("%s\r\n", a.dies)
				rest()
			}
			if err := a.misbehave(conn, run.Dir); err != nil {
				return nil // the host has closed the connection
			}
			if err := conn.WriteJSON(wire.Exit, wire.ExitStatus{}); err != nil {
				return err
			}
			if err := conn.Write(wire.End, nil); err != nil {
				return err
			}
			if err := conn.WriteJSON(wire.Idle, wire.IdleReport{Clean: true}); err != nil {
				return err
			}
		}
	}
}

// misbehave sends the frames that the script adds to a program's output.
func (a *agent) misbehave(conn *wire.Conn, dir string) error {
	for _, f := range a.files {
		path := strings.ReplaceAll(f, "{dir}", dir)
		text := "by the guest\n"
		h := wire.FileHeader{Path: path, Mode: 0o777, Size: int64(len(text))}
		if err := conn.SendFile(h, strings.NewReader(text)); err != nil {
			return err
		}
	}
	for _, f := range a.forged {
		kind, text, _ := strings.Cut(f, " ")
		text, err := strconv.Unquote(`"` + text + `"`)
		if err != nil {
			return err
		}
		if err := conn.Write(wire.Type(kind[0]), []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// dial calls the host at the socket that the machine's one address leads to.
func dial(s wire.Settings) (net.Conn, error) {
	args := strings.Join(os.Args[1:], " ")
	_, path, ok := strings.Cut(args, "-chardev socket,id=agent,path=")
	if !ok || !strings.Contains(args, "restrict=on,ipv6=off,guestfwd=tcp:"+s.Addr+"-chardev:agent") {
		return nil, fmt.Errorf("no way to %s in %q", s.Addr, args)
	}
	path, _, _ = strings.Cut(path, " ")
	return net.Dial("unix", path)
}
