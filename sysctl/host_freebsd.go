package sysctl

// Host returns the sysctls of the running kernel.
func Host() Tree { return New(host{}) }

type host struct{}

func (host) Sysctl(mib []int32, old, new []byte) (int, error) { return rawSysctl(mib, old, new) }
