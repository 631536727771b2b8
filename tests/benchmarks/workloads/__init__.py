"""Each workload is a coroutine from a `Bench` to the lines it gives."""
