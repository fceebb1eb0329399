package lab

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// apart keeps the kernel's threads that carry the frames of an epair away from all processes while
// there is a storm. These threads have the last processor, and processes the others.
//
// In a storm such a thread is never idle and goes before almost everything else. On the first
// processor it would stop the thread that runs the timeouts of the whole system, TCP's and the read
// timeouts of bpf among them. A thread of a process does not run at all if it is bound to the same
// processor, as the watchers of a Lag are, or if the scheduler leaves it there. Go can't stop such
// a thread either, but must do so for the garbage collector. Then the program stands still, and no
// thread is left that could end the storm.
var apart struct {
	sync.Mutex
	storms int
	was    []binding // join restores them
}

// binding names threads and the processors on which they may run.
type binding struct {
	level, which uintptr
	id           int
	cpus         []int
}

// separate begins that separation, for one storm more. A machine with one processor can't have it.
func separate() error {
	apart.Lock()
	defer apart.Unlock()
	if apart.storms > 0 {
		apart.storms++
		return nil
	}
	all, err := Processors()
	if err != nil {
		return err
	}
	apart.was = nil
	if last := len(all) - 1; last > 0 {
		ids, err := carriers()
		if err != nil {
			return err
		}
		var now []binding
		for _, id := range ids {
			now = append(now, binding{levelWhich, whichThread, id, all[last:]})
		}
		const everybody = 1 // the set of all processes that are in no other
		now = append(now, binding{levelCPUSet, whichCPUSet, everybody, all[:last]})
		for _, b := range now {
			was := b
			if was.cpus, err = getAffinity(b.level, b.which, b.id); err == nil {
				err = bind(b)
			}
			if err != nil {
				return errors.Join(err, bind(apart.was...))
			}
			apart.was = append(apart.was, was)
		}
	}
	apart.storms++
	return nil
}

// join ends that separation, with the last storm.
func join() error {
	apart.Lock()
	defer apart.Unlock()
	apart.storms--
	if apart.storms > 0 {
		return nil
	}
	return bind(apart.was...)
}

func bind(list ...binding) error {
	for _, b := range list {
		if err := setAffinity(b.level, b.which, b.id, b.cpus...); err != nil {
			return fmt.Errorf("bind (level %d, which %d, number %d) to processors %v: %w", b.level, b.which,
				b.id, b.cpus, err)
		}
	}
	return nil
}

// carriers returns the threads that take packets off the queues of an epair: those of netisr, and
// from 14 on those of the epair (if_epair.c of 14, not run).
func carriers() (ids []int, err error) {
	threads, err := Processes("kern.proc.proc_td")
	if err != nil {
		return nil, err
	}
	for _, t := range threads {
		if name := t.ThreadName(); strings.HasPrefix(name, "swi1: netisr") ||
			strings.HasPrefix(name, "epair_task") {
			ids = append(ids, t.Thread())
		}
	}
	if len(ids) == 0 {
		return nil, errors.New("there is no thread swi1: netisr or epair_task")
	}
	return ids, nil
}
