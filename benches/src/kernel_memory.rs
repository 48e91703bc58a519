//! What the kernel keeps for connections: slabs (sockets, files, ring requests), page tables
//! and what lies in socket buffers. It is the whole machine's, so only its growth means
//! something, and only while nothing else happens.

use std::fs;

use crate::pid::kilobytes;

/// The kernel's memory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelMemory {
    slab_bytes: u64,
    page_table_bytes: u64,
    socket_buffer_bytes: u64,
}

/// Pages of /proc/net/sockstat; x86-64 and most others.
const PAGE_BYTES: u64 = 4_096;

impl KernelMemory {
    /// From /proc/meminfo and /proc/net/sockstat.
    ///
    /// # Errors
    ///
    /// They cannot be read, or say something else.
    pub fn now() -> Result<Self, String> {
        let read = |path| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let now = Self::parse(&read("/proc/meminfo")?, &read("/proc/net/sockstat")?);
        now.ok_or_else(|| "/proc/meminfo or /proc/net/sockstat lacks a line".to_owned())
    }

    /// All of it.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.slab_bytes + self.page_table_bytes + self.socket_buffer_bytes
    }

    fn parse(meminfo: &str, sockstat: &str) -> Option<Self> {
        // "TCP: inuse 72 orphan 0 tw 11 alloc 74 mem 56"
        let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        let pages = tcp.split_whitespace().skip_while(|word| *word != "mem").nth(1)?;
        Some(Self {
            slab_bytes: kilobytes(meminfo, "Slab:")?,
            page_table_bytes: kilobytes(meminfo, "PageTables:")?,
            socket_buffer_bytes: pages.parse::<u64>().ok()? * PAGE_BYTES,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_added_up() {
        let meminfo = "MemTotal: 9 kB\nSlab:  3 kB\nPageTables:  2 kB\n";
        let sockstat = "sockets: used 88\nTCP: inuse 72 orphan 0 tw 11 alloc 74 mem 5\n";
        let memory = KernelMemory::parse(meminfo, sockstat).unwrap();
        assert_eq!(memory.bytes(), 3 * 1024 + 2 * 1024 + 5 * 4096);
        assert_eq!(KernelMemory::parse(meminfo, "TCP: inuse 72\n"), None);
    }

    #[test]
    fn this_kernel_has_memory() {
        assert!(KernelMemory::now().unwrap().bytes() > 0);
    }
}
