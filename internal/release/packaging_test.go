package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
)

const (
	root = "../.."
	port = root + "/packaging/port/net/bpfctl"
	rcd  = root + "/packaging/rc.d"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
			t.Skipf("the files are where the source is, not here: %v", err)
		}
	}
	require.NoError(t, err)
	return string(b)
}

// The port is of this module, and installs what its list says.
func TestPortFitsTheModule(t *testing.T) {
	makefile, list := read(t, port+"/Makefile"), read(t, port+"/pkg-plist")
	mod, err := modfile.Parse("go.mod", []byte(read(t, root+"/go.mod")), nil)
	require.NoError(t, err)
	values := map[string]string{}
	variables := regexp.MustCompile(`(?m)^([A-Z_]+)=\t+(.+)$`)
	for _, m := range variables.FindAllStringSubmatch(makefile, -1) {
		values[m[1]] = m[2]
	}
	release := strings.Join(strings.Split(mod.Go.Version, ".")[:2], ".")
	assert.Equal(t, "go:"+release+",modules", values["USES"])
	assert.Equal(t, mod.Module.Mod.Path, values["GO_MODULE"])
	assert.Equal(t, "./cmd/bpfctl", values["GO_TARGET"])
	assert.Equal(t, "BSD2CLAUSE", values["LICENSE"])
	// The linker sets a variable that there is. It says nothing about one that there is not.
	told := regexp.MustCompile(`-X \$\{GO_MODULE\}/(\S+)\.(\w+)=\$\{DISTVERSIONFULL\}`).
		FindStringSubmatch(values["GO_BUILDFLAGS"])
	require.NotNil(t, told, values["GO_BUILDFLAGS"])
	source := read(t, filepath.Join(root, told[1], "version.go"))
	assert.Contains(t, source, "\nvar "+told[2]+" string\n")
	assert.Contains(t, read(t, root+"/LICENSE"), "THIS SOFTWARE IS PROVIDED")
	assert.LessOrEqual(t, len(values["COMMENT"]), 70)
	assert.Regexp(t, `^[A-Z].*[^.]$`, values["COMMENT"])
	assert.True(t, strings.HasSuffix(makefile, "\n.include <bsd.port.mk>\n"))
	for _, m := range regexp.MustCompile(`\$\{WRKSRC\}/(\S+)`).FindAllStringSubmatch(makefile, -1) {
		_, err := os.Stat(filepath.Join(root, m[1]))
		assert.NoError(t, err)
	}
	for line := range strings.Lines(read(t, port+"/pkg-descr")) {
		assert.LessOrEqual(t, len(line), 81)
	}

	// Each line of the list has a command that installs it, and each command a line.
	installed := map[string]bool{"bin/bpfctl": true}
	install := regexp.MustCompile(`\$\{INSTALL_\w+\} \$\{WRKSRC\}/(\S+) \$\{STAGEDIR\}(\S+)\n`)
	for _, m := range install.FindAllStringSubmatch(makefile, -1) {
		to := strings.NewReplacer("${PREFIX}/", "", "${EXAMPLESDIR}", "%%EXAMPLESDIR%%").Replace(m[2])
		installed[to+"/"+filepath.Base(m[1])] = true
	}
	require.Contains(t, makefile, "man ${STAGEDIR}${PREFIX}/share/man/man8\n")
	for line := range strings.Lines(list) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "share/man/man8/bpfctl") {
			assert.True(t, installed[line], line)
			delete(installed, line)
		}
	}
	assert.Empty(t, installed, "not in the list")
}

// stub stands in for FreeBSD's rc.subr. It prints what a script has set.
const stub = `
load_rc_config() { loaded=$1; }
err() { shift; echo "err: $*"; exit 1; }
install() { echo "install $*"; }
run_rc_command() {
	echo "loaded=$loaded"
	[ -z "$start_precmd" ] || $start_precmd
	for v in name rcvar command command_args pidfile procname extra_commands "$rcvar"; do
		eval "echo \"$v=\$$v\""
	done
	for word in $command_args; do echo "word=$word"; done
	echo "asked=$1"
}
`

// source runs a script of rc.d with the stub, and returns its lines: what is set, and the words of
// the command line.
func source(t *testing.T, script string, env ...string) (set map[string]string, words []string) {
	t.Helper()
	text := read(t, filepath.Join(rcd, script))
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rc.subr"), []byte(stub), 0o600))
	require.Contains(t, text, "\n. /etc/rc.subr\n")
	text = strings.Replace(text, ". /etc/rc.subr", ". "+filepath.Join(dir, "rc.subr"), 1)
	name := filepath.Join(dir, script)
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skipf("sh runs the scripts of rc.d: %v", err)
	}
	out, err := exec.Command(sh, "-n", name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	c := exec.Command(sh, "-u", name, "start")
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "start_precmd=", "extra_commands="}, env...)
	out, err = c.CombinedOutput()
	if err != nil {
		return map[string]string{"said": string(out)}, nil
	}
	set = map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch {
		case key == "word":
			words = append(words, value)
		case found:
			set[key] = value
		default:
			set["said"] += line
		}
	}
	return set, words
}

func TestServicesAreWellFormed(t *testing.T) {
	for _, name := range []string{"bpfctl_capture", "bpfctl_exporter"} {
		text := read(t, filepath.Join(rcd, name))
		assert.Contains(t, text, "\n# PROVIDE: "+name+"\n")
		assert.Regexp(t, `\n# REQUIRE: .*NETWORKING`, text)
		assert.Contains(t, text, "\n# KEYWORD: shutdown\n")
		info, err := os.Stat(filepath.Join(rcd, name))
		require.NoError(t, err)
		assert.NotZero(t, info.Mode()&0o111)

		// The head lists the variables that have a default, and no other.
		listed, set := map[string]bool{}, map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^# (\w+) \(\w+\):`).FindAllStringSubmatch(text, -1) {
			listed[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`(?m)^: "\$\{(\w+):?=`).FindAllStringSubmatch(text, -1) {
			set[m[1]] = true
			assert.True(t, strings.HasPrefix(m[1], name+"_"), m[1])
			for _, special := range []string{"flags", "user", "group", "env", "program", "nice", "chroot"} {
				assert.NotEqual(t, name+"_"+special, m[1], "rc.subr gives it a meaning")
			}
		}
		assert.Equal(t, set, listed)

		got, _ := source(t, name, "bpfctl_capture_interfaces=em0")
		assert.Equal(t, name, got["loaded"])
		assert.Equal(t, name, got["name"])
		assert.Equal(t, name+"_enable", got["rcvar"])
		assert.Equal(t, "NO", got[name+"_enable"])
		assert.Equal(t, "/usr/sbin/daemon", got["command"])
		assert.Equal(t, "/var/run/"+name+".pid", got["pidfile"])
		assert.Equal(t, "/usr/local/bin/bpfctl", got["procname"])
		assert.Equal(t, "start", got["asked"])
	}
}

func TestServicesRunBpfctl(t *testing.T) {
	const capture, exporter = "bpfctl_capture", "bpfctl_exporter"
	daemon := func(name string) string {
		return "-S -T " + name + " -p /var/run/" + name + ".pid /usr/local/bin/bpfctl "
	}
	for rule, c := range map[string]struct {
		script string
		env    []string
		want   string
	}{
		"by default an hour a file, for a week": {capture, []string{"bpfctl_capture_interfaces=em0"},
			"capture -i em0 -w /var/db/bpfctl/capture.pcapng --user nobody --rotate-time 1h " +
				"--keep-files 168 --drop-oldest"},
		"everything is set": {capture, []string{"bpfctl_capture_interfaces=em0 em1",
			"bpfctl_capture_folder=/data", "bpfctl_capture_file=x.pcap.zst", "bpfctl_capture_as=pcap",
			"bpfctl_capture_rotation=--rotate-size 1G", "bpfctl_capture_expression_file=/etc/expr",
			"bpfctl_capture_options=--snaplen 96"},
			"capture -i em0 -i em1 -w /data/x.pcap.zst --user pcap --rotate-size 1G -F /etc/expr " +
				"--snaplen 96"},
		"no rotation": {capture, []string{"bpfctl_capture_interfaces=em0", "bpfctl_capture_rotation="},
			"capture -i em0 -w /var/db/bpfctl/capture.pcapng --user nobody"},
		"the exporter on the loopback address": {exporter, nil, "exporter --listen 127.0.0.1:9927"},
		"the exporter elsewhere": {exporter, []string{"bpfctl_exporter_listen=10.0.0.1:9927",
			"bpfctl_exporter_options=--per-pid"}, "exporter --listen 10.0.0.1:9927 --per-pid"},
	} {
		t.Run(rule, func(t *testing.T) {
			got, words := source(t, c.script, c.env...)
			assert.Equal(t, strings.Fields(daemon(c.script)+c.want), words)
			if c.script == capture {
				assert.Equal(t, "reload", got["extra_commands"])
				assert.Contains(t, got["said"], "install -d -m 0750 -o ")
			}
		})
	}
	got, _ := source(t, capture)
	assert.Equal(t, "loaded=bpfctl_capture\nerr: set bpfctl_capture_interfaces in rc.conf(5), "+
		"such as \"em0 em1\"\n", got["said"])
}
