package vmtest

import "embed"

// agentSource is the source of the guest's agent: see
// vmtest/internal/agentbin.
//
//go:embed agent/*.go internal/wire/*.go
var agentSource embed.FS
