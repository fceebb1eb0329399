package zbuf

// FailWatch makes the process's watch fail, as if the kernel had ended it.
func FailWatch() { theWatch.w.file.Close() }
