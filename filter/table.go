package filter

// few is the number of entries up to which a table searches one by one. That is faster than a map.
const few = 16

// table maps keys to values. Most expressions make few entries, and need no map.
type table[K comparable, V any] struct {
	first [few]struct {
		key K
		v   V
	}
	n    int
	rest map[K]V // the entries after the first
}

// get returns the value of a key, or the zero value.
func (t *table[K, V]) get(key K) (v V) {
	for i := range t.first[:min(t.n, few)] {
		if t.first[i].key == key {
			return t.first[i].v
		}
	}
	return t.rest[key]
}

// put sets the value of a key.
func (t *table[K, V]) put(key K, v V) {
	for i := range t.first[:min(t.n, few)] {
		if t.first[i].key == key {
			t.first[i].v = v
			return
		}
	}
	if t.n < few {
		t.first[t.n].key, t.first[t.n].v = key, v
		t.n++
		return
	}
	if t.rest == nil {
		t.rest = make(map[K]V)
	}
	t.rest[key] = v
}

// len returns the number of keys.
func (t *table[K, V]) len() int { return t.n + len(t.rest) }

// clear removes every key.
func (t *table[K, V]) clear() {
	t.n = 0
	clear(t.rest)
}
