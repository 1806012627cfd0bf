"""The interfaces and tools that components are built from; they know no component and no run."""
