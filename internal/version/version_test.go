package version

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestModule(t *testing.T) {
	for want, info := range map[string]debug.BuildInfo{
		"unknown": {},
		"v1.2.3":  {Main: debug.Module{Version: "v1.2.3"}},
		"(devel) 0a1b modified": {Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
			{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "0a1b"},
			{Key: "vcs.modified", Value: "true"}}},
		"(devel) 0a1b": {Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0a1b"}, {Key: "vcs.modified", Value: "false"}}},
	} {
		assert.Equal(t, want, module(&info))
	}

	// A build from an archive of the source has what the linker was told.
	linked = "v4.5.6"
	t.Cleanup(func() { linked = "" })
	for want, version := range map[string]string{"v4.5.6": "(devel)", "v1.2.3": "v1.2.3"} {
		assert.Equal(t, want, module(&debug.BuildInfo{Main: debug.Module{Version: version}}))
	}
	assert.Equal(t, "v4.5.6", module(&debug.BuildInfo{}))
}
