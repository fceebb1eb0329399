package vmtest

import "embed"

// agentSource is what the guest's agent is compiled from: see
// vmtest/internal/agentbin.
//
//go:embed agent/*.go internal/wire/*.go
var agentSource embed.FS
