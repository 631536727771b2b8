"""The worker: claims commands, runs their tools and reports outcomes. An ordinary package, independent of any cloud."""
