//! The race detector without a kernel.

use super::*;

const BASE: u64 = crate::machine::BASE;

fn access(races: &mut Races, thread: usize, touch: Touch, offset: u64, size: usize) -> bool {
    let accesses = Accesses {
        block: 0,
        warp: thread / LANES,
        mask: 1 << (thread % LANES),
        pc: 0,
        touch,
        base: BASE,
        home: None,
        addresses: &[BASE + offset; LANES],
        low: BASE + offset,
        high: BASE + offset,
        size,
        post: None,
    };
    races.touch(&accesses).is_ok()
}

fn block() -> Races {
    let mut races = Races::new(64, 1);
    races.begin(0);
    races
}

/// The same in a cluster of two blocks of 64 threads, which are numbered consecutively.
fn in_pair(races: &mut Races, thread: usize, touch: Touch, home: Option<usize>) -> bool {
    let accesses = Accesses {
        block: thread / 64,
        warp: thread % 64 / LANES,
        mask: 1 << (thread % LANES),
        pc: 0,
        touch,
        base: BASE,
        home,
        addresses: &[BASE; LANES],
        low: BASE,
        high: BASE,
        size: 4,
        post: None,
    };
    races.touch(&accesses).is_ok()
}

fn pair() -> Races {
    let mut races = Races::new(64, 2);
    races.begin(3);
    races
}

const WARPS: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

fn arrive(races: &mut Races, relaxed: bool) {
    WARPS.iter().for_each(|&(block, warp)| races.arrive(block, warp, u32::MAX, relaxed));
}

fn complete(races: &mut Races) {
    races.complete(WARPS.iter().map(|&(block, warp)| (block, warp, u32::MAX)));
}

fn pass(races: &mut Races) {
    WARPS.iter().for_each(|&(block, warp)| races.wait(block, warp, u32::MAX));
}

fn meet(races: &mut Races) {
    arrive(races, false);
    complete(races);
    pass(races);
}

#[test]
fn a_barrier_of_the_cluster_orders_all_of_it() {
    use Touch::{Atomic, Read, Write};
    for (first, second, ordered) in
        [(Read, Write, false), (Write, Read, false), (Write, Atomic, false), (Read, Read, true)]
    {
        for (one, other) in [(0, 1), (0, 40), (5, 64), (70, 20), (127, 0)] {
            let run = |between: &dyn Fn(&mut Races)| {
                let mut races = pair();
                assert!(in_pair(&mut races, one, first, None));
                between(&mut races);
                in_pair(&mut races, other, second, None)
            };
            assert_eq!(run(&|_| ()), ordered);
            assert!(run(&meet));
            assert!(run(&|races| (meet(races), meet(races)).0));
            assert_eq!(run(&|races| arrive(races, false)), ordered);
            assert_eq!(
                run(&|races| (arrive(races, false), complete(races)).0),
                ordered,
                "a thread that has not waited knows nothing"
            );
            assert_eq!(run(&|races| (arrive(races, true), complete(races), pass(races)).0), ordered, "relaxed");
            let same_block = one / 64 == other / 64;
            assert_eq!(run(&|races| races.barrier(0)), ordered || same_block && one < 64);
            // The next cluster knows nothing of it.
            assert_eq!(run(&|races| (meet(races), races.begin(4)).0), ordered);
        }
    }
}

#[test]
fn accesses_after_the_arrival_are_not_ordered() {
    for between in [0, 1] {
        let mut races = pair();
        arrive(&mut races, false);
        if between == 1 {
            complete(&mut races);
        }
        assert!(in_pair(&mut races, 3, Touch::Write, None));
        if between == 0 {
            complete(&mut races);
        }
        pass(&mut races);
        assert!(!in_pair(&mut races, 64, Touch::Read, None));
        // The next barrier orders it.
        meet(&mut races);
        assert!(in_pair(&mut races, 64, Touch::Read, None));
    }
}

#[test]
fn barriers_of_the_block_share_knowledge_of_the_cluster() {
    // One thread waits and a barrier of its block shares what it knows. Before that, a barrier of the other block shared the
    // write of thread 40 with the thread that arrives.
    let mut races = pair();
    WARPS[1..].iter().for_each(|&(block, warp)| races.arrive(block, warp, u32::MAX, false));
    assert!(in_pair(&mut races, 40, Touch::Write, None), "after its own arrival");
    races.barrier(0);
    races.arrive(0, 0, u32::MAX, false);
    complete(&mut races);
    races.wait(1, 0, 1);
    assert!(in_pair(&mut races, 64, Touch::Read, None));
    assert!(!in_pair(&mut races, 65, Touch::Read, None));
    let mut races = pair();
    assert!(in_pair(&mut races, 40, Touch::Write, None));
    arrive(&mut races, false);
    complete(&mut races);
    races.wait(1, 0, 1);
    races.meet(1, 0, 0b11);
    assert!(in_pair(&mut races, 65, Touch::Read, None));
    races.barrier(1);
    assert!(in_pair(&mut races, 127, Touch::Read, None));
}

#[test]
fn ended_threads_have_arrived() {
    let mut races = pair();
    assert!(in_pair(&mut races, 64, Touch::Write, None));
    WARPS[..2].iter().for_each(|&(block, warp)| races.arrive(block, warp, u32::MAX, false));
    races.complete([(0, 0, u32::MAX), (0, 1, u32::MAX), (1, 0, 0), (1, 1, 0)].into_iter());
    races.wait(0, 0, u32::MAX);
    assert!(in_pair(&mut races, 5, Touch::Read, None));
}

#[test]
fn shared_memory_of_others_is_valid_between_barriers() {
    let mut races = pair();
    assert!(in_pair(&mut races, 64, Touch::Write, Some(1)), "its own");
    assert!(!in_pair(&mut races, 0, Touch::Read, Some(1)), "not begun");
    let mut races = pair();
    assert!(in_pair(&mut races, 0, Touch::Write, Some(0)) && in_pair(&mut races, 64, Touch::Write, Some(1)));
    meet(&mut races);
    assert!(in_pair(&mut races, 7, Touch::Read, Some(1)) && in_pair(&mut races, 70, Touch::Read, Some(0)));
    assert!(races.end_block(1).is_err());
    arrive(&mut races, false);
    assert!(races.end_block(1).is_err(), "nobody has waited");
    complete(&mut races);
    races.wait(1, 1, 1 << 9);
    assert!(races.end_block(1).is_ok(), "one has waited");
    assert!(races.end_block(0).is_err());
}

/// A thread arrives at an mbarrier for one thread.
fn signal(races: &mut Races, mbarrier: usize, thread: usize) -> bool {
    for (_, release) in races.release(thread / 64, thread % 64 / LANES, 1 << (thread % LANES)) {
        races.gather(mbarrier, &release);
    }
    races.end_phase(mbarrier).is_ok()
}

fn observe(races: &mut Races, mbarrier: usize, thread: usize, relaxed: bool) {
    races.observe(thread / 64, thread % 64 / LANES, 1 << (thread % LANES), 0, mbarrier, relaxed);
}

#[test]
fn an_mbarrier_orders_arrivals_before_waits() {
    use Touch::{Atomic, Read, Write};
    for (first, second) in [(Read, Write), (Write, Read), (Write, Atomic)] {
        for (one, other) in [(0, 1), (0, 40), (5, 64), (127, 0)] {
            let run = |between: &dyn Fn(&mut Races, usize)| {
                let mut races = pair();
                let mbarrier = races.add_mbarrier();
                assert!(in_pair(&mut races, one, first, None));
                between(&mut races, mbarrier);
                in_pair(&mut races, other, second, None)
            };
            assert!(run(&|races, m| (signal(races, m, one), observe(races, m, other, false)).1));
            assert!(!run(&|races, m| _ = signal(races, m, one)), "a thread that has not waited knows nothing");
            assert!(!run(&|races, m| (signal(races, m, one), observe(races, m, other, true)).1), "relaxed");
            assert!(!run(&|races, m| observe(races, m, other, false)), "nobody has arrived");
            // Another thread arrives: of the block, or of the warp, after a synchronisation.
            let also = if one % 64 == 3 { 4 } else { one / 64 * 64 + 3 };
            assert!(!run(&|races, m| (signal(races, m, also), observe(races, m, other, false)).1));
            let told = |races: &mut Races, m| {
                races.barrier(one / 64);
                signal(races, m, also);
                observe(races, m, other, false);
            };
            assert!(run(&told));
            // A third thread forwards it: by another mbarrier, by its block, or by the barrier of the cluster.
            let third = other / 64 * 64 + 50;
            let by_mbarrier = |races: &mut Races, m| {
                let next = races.add_mbarrier();
                signal(races, m, one);
                observe(races, m, 77, false);
                signal(races, next, 77);
                observe(races, next, other, false);
            };
            assert!(run(&by_mbarrier));
            let by_block = |races: &mut Races, m| {
                signal(races, m, one);
                observe(races, m, third, false);
                races.barrier(other / 64);
            };
            assert!(run(&by_block));
            assert!(run(&|races, m| (signal(races, m, one), observe(races, m, third, false), meet(races)).2));
        }
    }
}

#[test]
fn a_warp_shares_its_lanes_knowledge_with_mbarriers() {
    let run = |met: bool| {
        let mut races = pair();
        let mbarrier = races.add_mbarrier();
        assert!(in_pair(&mut races, 7, Touch::Write, None));
        if met {
            races.meet(0, 0, 1 | 1 << 7);
        }
        signal(&mut races, mbarrier, 0);
        observe(&mut races, mbarrier, 100, false);
        in_pair(&mut races, 100, Touch::Read, None)
    };
    assert!(run(true) && !run(false));
}

#[test]
fn accesses_after_an_arrival_are_not_released() {
    let mut races = pair();
    let mbarrier = races.add_mbarrier();
    signal(&mut races, mbarrier, 0);
    assert!(in_pair(&mut races, 0, Touch::Write, None));
    observe(&mut races, mbarrier, 100, false);
    assert!(!in_pair(&mut races, 100, Touch::Read, None));
}

#[test]
fn phases_must_not_end_before_all_have_seen_the_last() {
    for (seen, ordered) in [(5, true), (1, false), (100, false)] {
        let mut races = pair();
        let mbarrier = races.add_mbarrier();
        assert!(signal(&mut races, mbarrier, 0));
        observe(&mut races, mbarrier, seen, false);
        if ordered {
            races.barrier(0);
        }
        assert_eq!(signal(&mut races, mbarrier, 0), ordered, "{seen}");
    }
}

/// A thread begins an asynchronous store.
fn post(races: &mut Races, number: u32, thread: usize) -> bool {
    races
        .touch(&Accesses {
            block: thread / 64,
            warp: thread % 64 / LANES,
            mask: 1 << (thread % LANES),
            pc: 0,
            touch: Touch::Write,
            base: BASE,
            home: None,
            addresses: &[BASE; LANES],
            low: BASE,
            high: BASE,
            size: 4,
            post: Some(number),
        })
        .is_ok()
}

#[test]
fn an_asynchronous_store_has_happened_after_its_phase() {
    for reader in [0, 1, 100] {
        let run = |between: &dyn Fn(&mut Races, usize, u32)| {
            let mut races = pair();
            let (mbarrier, number) = (races.add_mbarrier(), races.add_post());
            assert!(post(&mut races, number, 0));
            between(&mut races, mbarrier, number);
            in_pair(&mut races, reader, Touch::Read, None)
        };
        let count = |races: &mut Races, m, number| {
            assert!(races.land(number, m, &Release::new()));
            races.end_phase(m).unwrap();
        };
        assert!(run(&|races, m, number| (count(races, m, number), observe(races, m, reader, false)).1));
        assert!(!run(&count), "nobody has waited, and even its own thread must");
        assert!(!run(&|races, _, _| meet(races)), "no barrier orders it");
        assert!(!run(&|races, m, number| (count(races, m, number), meet(races)).1));
        let early = |races: &mut Races, m, number| {
            races.end_phase(m).unwrap();
            assert!(!races.land(number, m, &Release::new()), "its thread knows of no phase");
            observe(races, m, reader, false);
        };
        assert!(!run(&early), "it was counted in the phase after");
    }
}

#[test]
fn an_asynchronous_store_collides_with_every_reader() {
    for late in [1, 2, 40, 50] {
        let run = |all: bool| {
            let mut races = pair();
            let (mbarrier, number) = (races.add_mbarrier(), races.add_post());
            assert!(post(&mut races, number, 64));
            assert!(races.land(number, mbarrier, &Release::new()));
            races.end_phase(mbarrier).unwrap();
            let readers = [1, 2, 40, 50];
            for reader in readers {
                observe(&mut races, mbarrier, reader, false);
                assert!(in_pair(&mut races, reader, Touch::Read, None));
            }
            let next = races.add_mbarrier();
            for reader in readers.into_iter().filter(|&reader| all || reader != late) {
                signal(&mut races, next, reader);
            }
            observe(&mut races, next, 64, false);
            let number = races.add_post();
            post(&mut races, number, 64)
        };
        assert!(run(true) && !run(false), "{late}");
    }
}

#[test]
fn readers_of_a_later_phase_are_recorded() {
    for (reader, writer) in [(2, 64), (2, 1), (70, 1), (41, 100)] {
        let mut races = pair();
        assert!(in_pair(&mut races, 1, Touch::Read, None) && in_pair(&mut races, 40, Touch::Read, None));
        meet(&mut races);
        assert!(in_pair(&mut races, reader, Touch::Read, None));
        assert!(!in_pair(&mut races, writer, Touch::Write, None), "{reader} {writer}");
    }
    // Between arrival and wait, too, and for any number of earlier readers.
    for (late, writer) in [(5, 64), (5, 1), (5, 40)] {
        let mut races = pair();
        races.arrive(0, 0, 1 << late, false);
        for reader in [1, 40, late, 41, 70, 2] {
            assert!(in_pair(&mut races, reader, Touch::Read, None));
        }
        races.arrive(0, 0, !(1 << late), false);
        WARPS[1..].iter().for_each(|&(block, warp)| races.arrive(block, warp, u32::MAX, false));
        complete(&mut races);
        pass(&mut races);
        assert!(!in_pair(&mut races, writer, Touch::Write, None), "{writer}");
    }
}

#[test]
fn a_reader_of_another_block_is_not_forgotten() {
    for readers in [[1, 70, 2, 40], [70, 1, 40, 2], [1, 2, 40, 70], [1, 40, 70, 2]] {
        let mut races = pair();
        assert!(readers.iter().all(|&reader| in_pair(&mut races, reader, Touch::Read, None)));
        races.barrier(0);
        assert!(!in_pair(&mut races, 3, Touch::Write, None), "{readers:?}");
    }
}

#[test]
fn readers_that_are_not_recorded_still_collide() {
    // Many of one block read, some of them between arrival and wait.
    for late in [false, true] {
        for writer in [0, 63, 64, 100] {
            let mut races = pair();
            assert!(in_pair(&mut races, 1, Touch::Read, None) && in_pair(&mut races, 40, Touch::Read, None));
            races.arrive(0, 0, 1 << 5, false);
            assert!(in_pair(&mut races, 2, Touch::Read, None) && in_pair(&mut races, 41, Touch::Read, None));
            if late {
                assert!(in_pair(&mut races, 5, Touch::Read, None));
            }
            WARPS.iter().for_each(|&(block, warp)| {
                let mask = if (block, warp) == (0, 0) { !(1 << 5) } else { u32::MAX };
                races.arrive(block, warp, mask, false);
            });
            complete(&mut races);
            pass(&mut races);
            assert_eq!(in_pair(&mut races, writer, Touch::Write, None), !late, "{writer}");
        }
    }
}

#[test]
fn pairs_of_accesses() {
    use Touch::{Atomic, Read, Write};
    for (first, second, ordered) in [
        (Read, Read, true),
        (Read, Write, false),
        (Write, Read, false),
        (Write, Write, false),
        (Atomic, Atomic, true),
        (Atomic, Read, false),
        (Write, Atomic, false),
    ] {
        for other in [1, 40] {
            let mut races = block();
            assert!(access(&mut races, 0, first, 0, 4));
            assert_eq!(access(&mut races, other, second, 0, 4), ordered, "{first:?} {second:?}");
            let mut races = block();
            assert!(access(&mut races, 0, first, 0, 4));
            races.barrier(0);
            assert!(access(&mut races, other, second, 0, 4));
            let mut races = block();
            assert!(access(&mut races, 0, first, 0, 4));
            races.begin(1);
            assert_eq!(access(&mut races, other, second, 0, 4), ordered);
        }
    }
}

#[test]
fn one_of_two_readers_writes() {
    let mut races = block();
    assert!(access(&mut races, 1, Touch::Read, 0, 4));
    assert!(access(&mut races, 2, Touch::Read, 0, 4));
    assert!(!access(&mut races, 2, Touch::Write, 0, 4));
}

#[test]
fn an_exchange_orders_only_its_lanes() {
    let mut races = block();
    assert!(access(&mut races, 0, Touch::Write, 0, 4));
    races.meet(0, 0, 0b011);
    assert!(access(&mut races, 1, Touch::Read, 0, 4));
    assert!(!access(&mut races, 2, Touch::Read, 0, 4));
    // Knowledge is shared.
    let mut races = block();
    assert!(access(&mut races, 0, Touch::Write, 0, 4));
    races.meet(0, 0, 0b011);
    races.meet(0, 0, 0b110);
    assert!(access(&mut races, 2, Touch::Read, 0, 4));
}

#[test]
fn neighbouring_bytes_are_separate() {
    let mut races = block();
    assert!(access(&mut races, 0, Touch::Write, 0, 1));
    assert!(access(&mut races, 1, Touch::Write, 1, 1));
    assert!(!access(&mut races, 2, Touch::Read, 0, 4));
}

#[test]
fn settled_cells_still_collide_with_writers() {
    // Read by two warps and then by many: no writer may follow before the next barrier.
    for writer in [1, 40, 50] {
        let mut races = Races::new(96, 1);
        races.begin(0);
        assert!(access(&mut races, 3, Touch::Write, 0, 4));
        races.barrier(0);
        for reader in [1, 40, 2, 41, 1] {
            assert!(access(&mut races, reader, Touch::Read, 0, 4));
        }
        assert!(!access(&mut races, writer, Touch::Write, 0, 4));
        let mut races = Races::new(96, 1);
        races.begin(0);
        for reader in [1, 40, 2] {
            assert!(access(&mut races, reader, Touch::Read, 0, 4));
        }
        races.barrier(0);
        assert!(access(&mut races, writer, Touch::Write, 0, 4));
        assert_eq!(access(&mut races, 2, Touch::Read, 0, 4), writer == 2);
    }
    // Read by two blocks: nobody may write any more.
    for writer in [1, 40] {
        let mut races = block();
        assert!(access(&mut races, 1, Touch::Read, 0, 4));
        races.begin(1);
        assert!(access(&mut races, 1, Touch::Read, 0, 4));
        races.barrier(0);
        assert!(access(&mut races, 2, Touch::Read, 0, 4));
        assert!(!access(&mut races, writer, Touch::Write, 0, 4));
    }
}
