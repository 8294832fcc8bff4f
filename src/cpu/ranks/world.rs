//! MPI: the ranks, and their collective operations.

use crate::{
    cpu::host::Part,
    error::{Error, Result},
};
use mpi::{
    Count, Threading,
    collective::SystemOperation,
    datatype::{Partition, PartitionMut},
    environment::{Universe, initialize_with_threading, processor_name},
    request::scope,
    topology::SimpleCommunicator,
    traits::{Communicator, CommunicatorCollectives, Equivalence, Root},
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The communication of a rank ([`Ranks::traffic`](super::Ranks::traffic)).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Traffic {
    /// The number of collective operations.
    pub calls: u64,
    /// The bytes received from other ranks.
    pub bytes: u64,
    /// The time in these operations, including the wait for slower ranks.
    pub time: Duration,
}

/// All ranks, including this process. Dropping it ends MPI.
pub(super) struct World {
    pub part: Part,
    /// Locked during each call of MPI, which supports calls from any thread, one at a time.
    traffic: Mutex<Traffic>,
    /// Packed and received data; kept for reuse.
    scratch: Mutex<[Vec<f32>; 2]>,
    _universe: Universe,
}

impl World {
    pub fn join() -> Result<Self> {
        let fail = |expected: &str, found: &str| {
            Err(Error::Argument { what: "ranks", expected: expected.into(), found: found.into() })
        };
        let Some((universe, threading)) = initialize_with_threading(Threading::Serialized) else {
            return fail("a process that has not called MPI before", "one that has");
        };
        if threading < Threading::Serialized {
            return fail("an MPI that supports calls from any thread", "one that does not");
        }
        let world = universe.world();
        let number = |n: Count| usize::try_from(n).unwrap_or(0);
        let part = Part { rank: number(world.rank()), of: number(world.size()).max(1) };
        Ok(Self { part, traffic: Mutex::default(), scratch: Mutex::default(), _universe: universe })
    }

    /// The communication so far.
    pub fn traffic(&self) -> Traffic {
        *self.lock()
    }

    pub fn scratch(&self) -> MutexGuard<'_, [Vec<f32>; 2]> {
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls MPI; `bytes` are received from other ranks.
    fn call<T>(&self, bytes: usize, run: impl FnOnce(&SimpleCommunicator) -> T) -> T {
        let mut traffic = self.lock();
        let begin = Instant::now();
        let result = run(&SimpleCommunicator::world());
        traffic.calls += 1;
        traffic.bytes += bytes as u64;
        traffic.time += begin.elapsed();
        result
    }

    /// The part of each rank.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let of = self.part.of;
        (0..of).map(move |rank| Part { rank, of })
    }

    /// The greatest of the ranks' numbers.
    pub fn greatest(&self, number: u64) -> u64 {
        if self.part.of == 1 {
            return number;
        }
        let mut greatest = 0;
        self.call(8, |world| world.all_reduce_into(&number, &mut greatest, SystemOperation::max()));
        greatest
    }

    /// Copies the numbers of rank 0 to every rank.
    pub fn broadcast<T: Equivalence>(&self, numbers: &mut [T]) -> Result<()> {
        counts([numbers.len()])?;
        let bytes = if self.part.rank == 0 { 0 } else { size_of_val(numbers) };
        self.call(bytes, |world| world.process_at_rank(0).broadcast_into(numbers));
        Ok(())
    }

    /// Gathers the parts of the rows of `values` on every rank.
    pub fn all_gather<T: Equivalence + Clone>(&self, values: &mut [T], width: usize) -> Result<()> {
        let Some(Gather { own, mut all, bytes }) = self.gather(values, width)? else { return Ok(()) };
        self.call(bytes, |world| world.all_gather_varcount_into(&own[..], &mut all));
        Ok(())
    }

    /// The same; calls `meanwhile` during the communication.
    pub fn all_gather_while<T: Equivalence + Clone>(
        &self, values: &mut [T], width: usize, meanwhile: impl FnOnce(),
    ) -> Result<()> {
        let Some(Gather { own, mut all, bytes }) = self.gather(values, width)? else {
            meanwhile();
            return Ok(());
        };
        let besides = self.call(bytes, |world| {
            scope(|scope| {
                let request = world.immediate_all_gather_varcount_into(scope, &own[..], &mut all);
                let begin = Instant::now();
                meanwhile();
                let besides = begin.elapsed();
                request.wait();
                besides
            })
        });
        self.lock().time -= besides;
        Ok(())
    }

    /// The data to send and to receive, if any.
    fn gather<'a, T: Equivalence + Clone>(&self, values: &'a mut [T], width: usize) -> Result<Option<Gather<'a, T>>> {
        if values.is_empty() || self.part.of == 1 {
            return Ok(None);
        }
        let (rows, len) = (values.len().div_ceil(width), values.len());
        let range = |part: Part| {
            let rows = part.range(rows);
            rows.start * width..len.min(rows.end * width)
        };
        let own = values[range(self.part)].to_vec();
        let (counts, places) = counts(self.parts().map(|part| range(part).len()))?;
        let bytes = (len - own.len()) * size_of::<T>();
        Ok(Some(Gather { own, all: PartitionMut::new(values, counts, places), bytes }))
    }

    /// Concatenates `own` of all ranks; `lens` are the lengths.
    pub fn all_gather_parts<T: Equivalence + Clone + Default>(
        &self, own: &[T], lens: impl Iterator<Item = usize>, all: &mut Vec<T>,
    ) -> Result<()> {
        let (counts, places) = counts(lens)?;
        all.resize(end(&counts, &places), T::default());
        let bytes = (all.len() - own.len()) * size_of::<T>();
        let mut all = PartitionMut::new(&mut all[..], counts, places);
        self.call(bytes, |world| world.all_gather_varcount_into(own, &mut all));
        Ok(())
    }

    /// Each rank sends a part of `from` to each rank, and receives one from each, concatenated. `lens`: the lengths sent and
    /// received.
    pub fn all_to_all<T: Equivalence + Clone + Default>(
        &self, from: &[T], lens: [impl Iterator<Item = usize>; 2], to: &mut Vec<T>,
    ) -> Result<()> {
        let [go, come] = lens;
        let ((go, go_places), (come, come_places)) = (counts(go)?, counts(come)?);
        to.resize(end(&come, &come_places), T::default());
        let bytes = size_of_val(&to[..]);
        let from = Partition::new(from, go, go_places);
        let mut to = PartitionMut::new(&mut to[..], come, come_places);
        self.call(bytes, |world| world.all_to_all_varcount_into(&from, &mut to));
        Ok(())
    }

    /// Fails on all ranks if the text of one differs from that of rank 0.
    pub fn check_same(&self, what: &'static str, text: &str) -> Result<()> {
        let mut lens = vec![0_u64; self.part.of];
        lens[self.part.rank] = text.len() as u64;
        self.all_gather(&mut lens, 1)?;
        let lens: Vec<_> = lens.into_iter().map(|len| len as usize).collect();
        let mut all = Vec::new();
        self.all_gather_parts(text.as_bytes(), lens.iter().copied(), &mut all)?;
        let mut texts = lens.iter().scan(0, |at, len| {
            *at += len;
            Some(&all[*at - len..*at])
        });
        let first = texts.next().unwrap_or_default();
        let Some((rank, other)) = (1..).zip(texts).find(|(_, text)| *text != first) else { return Ok(()) };
        let shown = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        Err(Error::Argument {
            what,
            expected: format!("the same on all ranks, {} as on rank 0", shown(first)),
            found: format!("{} on rank {rank} of {}", shown(other), self.part.of),
        })
    }

    /// How many ranks of this machine say the same text, and how many of them come before this one.
    pub fn neighbours(&self, text: &str) -> Result<(usize, usize)> {
        let own = format!("{} {text}", machine());
        let mut lens = vec![0_u64; self.part.of];
        lens[self.part.rank] = own.len() as u64;
        self.all_gather(&mut lens, 1)?;
        let mut all = Vec::new();
        self.all_gather_parts(own.as_bytes(), lens.iter().map(|&len| len as usize), &mut all)?;
        let mut at = 0;
        let is_same: Vec<_> = lens
            .iter()
            .map(|&len| {
                at += len as usize;
                all[at - len as usize..at] == *own.as_bytes()
            })
            .collect();
        let count = |ranks: &[bool]| ranks.iter().filter(|is_same| **is_same).count();
        Ok((count(&is_same), count(&is_same[..self.part.rank])))
    }

    /// Ends all ranks at once.
    pub fn abort(&self, status: i32) -> ! {
        // Without the lock of `call`: another thread may hold it forever.
        SimpleCommunicator::world().abort(status)
    }
}

/// The rows of one rank, the memory for those of all, and the number of received bytes.
struct Gather<'a, T> {
    own: Vec<T>,
    all: PartitionMut<'a, [T], Vec<Count>, Vec<Count>>,
    bytes: usize,
}

/// The name of this machine.
pub(super) fn machine() -> String {
    processor_name().unwrap_or_default()
}

/// The lengths and offsets of consecutive parts in MPI's type.
fn counts(lens: impl IntoIterator<Item = usize>) -> Result<(Vec<Count>, Vec<Count>)> {
    let mut at: usize = 0;
    let each = lens.into_iter().map(|len| {
        let place = at;
        at = at.saturating_add(len);
        match (Count::try_from(len), Count::try_from(place), Count::try_from(at)) {
            (Ok(len), Ok(place), Ok(_)) => Ok((len, place)),
            _ => Err(Error::Argument {
                what: "ranks",
                expected: format!("at most {} numbers at once from one rank to another", Count::MAX),
                found: at.to_string(),
            }),
        }
    });
    Ok(each.collect::<Result<Vec<_>>>()?.into_iter().unzip())
}

/// The end of the last part.
fn end(counts: &[Count], places: &[Count]) -> usize {
    let last = counts.last().zip(places.last()).map_or(0, |(len, place)| len + place);
    usize::try_from(last).unwrap_or(0)
}
