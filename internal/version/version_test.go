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
}
