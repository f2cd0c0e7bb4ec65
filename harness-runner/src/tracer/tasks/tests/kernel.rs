//! A kernel of made-up tasks, and random programs that run on it.
//!
//! The kernel holds what ptrace(2) demands: a stop is ended once, after it was reported and before
//! anything else is; and after each piece of news, the only tasks that stand still are those that are
//! put aside. At the end of each program, after the limit for held tasks, none is.

use super::*;
use crate::{sys::Syscall, tracer::stop::Kernel};
use harness_metadata::TraceEvent;
use nix::errno::Errno;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use syscalls::Sysno;

/// Larger than any id of the running system, where there is nothing to be found of these.
const ROOT: i32 = 5_000_000;

/// Longer than a task is held.
const LONG: Duration = Duration::from_secs(1);

/// The actions of a program or its user.
#[derive(Copy, Clone, Debug)]
enum Step {
    Fork(CreatedBy),
    Thread,
    Exec,
    /// A call that a filter stops, and what it returns if that is awaited.
    Call(i64),
    /// A call that no result is awaited of.
    Ask,
    Signal(i32),
    Continue,
    Exit,
    ExitGroup,
    Kill,
    /// SIGKILL comes at this request of the tracer's.
    Ambush(u8),
    /// The tracer waits.
    Wait,
    /// Nothing happens for longer than a task is held.
    Idle,
}

fn step() -> impl Strategy<Value = Step> {
    use CreatedBy::{Clone, Fork, Vfork};
    prop_oneof![
        12 => Just(Step::Wait),
        2 => prop_oneof![Just(Fork), Just(Vfork), Just(Clone)].prop_map(Step::Fork),
        2 => Just(Step::Thread),
        1 => Just(Step::Exec),
        2 => prop_oneof![Just(0), Just(-1), Just(-512)].prop_map(Step::Call),
        1 => Just(Step::Ask),
        1 => prop_oneof![Just(libc::SIGSTOP), Just(libc::SIGTERM)].prop_map(Step::Signal),
        1 => Just(Step::Continue),
        1 => Just(Step::Exit),
        1 => Just(Step::ExitGroup),
        1 => Just(Step::Kill),
        1 => (0..6_u8).prop_map(Step::Ambush),
        1 => Just(Step::Idle),
    ]
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum State {
    Running,
    /// Stopped, and not reported.
    Due(Stop),
    /// Stopped, and reported.
    Stopped(Stop),
    /// In a group-stop, to be woken by SIGCONT.
    Listening,
    /// In execve(2), until the other threads of its process are gone.
    Executing,
    /// Its end is not reported.
    Dead(Exit),
}

#[derive(Clone, Debug)]
struct FakeTask {
    process: i32,
    creator: i32,
    options: Options,
    state: State,
    /// The message of PTRACE_GETEVENTMSG at an event.
    message: i32,
    /// Its exit status.
    exit: Exit,
    /// The result of its call.
    result: i64,
    awaited: bool,
}

struct World {
    now: Instant,
    tasks: BTreeMap<i32, FakeTask>,
    last: i32,
    ambush: Option<(u8, i32)>,
    /// The number of the tracer's own children that were reported to have ended.
    reaped: u64,
    /// Ended stops, for the message of a failure.
    log: Vec<String>,
}

const KILLED: Exit = Exit::Signal {
    signal: libc::SIGKILL,
    core_dumped: false,
};

impl World {
    fn others(&self, of: i32) -> Vec<i32> {
        let process = self.tasks[&of].process;
        let other = |(tid, task): (&i32, &FakeTask)| {
            (*tid != of && task.process == process).then_some(*tid)
        };
        self.tasks.iter().filter_map(other).collect()
    }

    /// Ends a task that does nothing to prevent it.
    fn die(&mut self, tid: i32, exit: Exit) {
        let task = self.tasks.get_mut(&tid).expect("it exists");
        match task.state {
            State::Dead(_) | State::Due(Stop::Exit) | State::Stopped(Stop::Exit) => {}
            _ if task.options.exits => {
                (task.state, task.exit) = (State::Due(Stop::Exit), exit);
            }
            _ => task.state = State::Dead(exit),
        }
    }

    fn kill(&mut self, process: i32) {
        let tids: Vec<i32> = self.tasks.keys().copied().collect();
        for tid in tids {
            if self.tasks[&tid].process == process {
                self.die(tid, KILLED);
            }
        }
    }

    /// Completes executions whose processes have no other thread any more.
    fn complete_execs(&mut self) {
        let executing = |(tid, task): (&i32, &FakeTask)| {
            (task.state == State::Executing).then_some((*tid, task.process))
        };
        let executing: Vec<_> = self.tasks.iter().filter_map(executing).collect();
        for (tid, process) in executing {
            let gone = |other: &i32| {
                // The kernel releases a leader itself.
                *other == process && matches!(self.tasks[other].state, State::Dead(_))
            };
            if !self.others(tid).iter().all(gone) {
                continue;
            }
            let mut task = self.tasks.remove(&tid).expect("it executes");
            (task.state, task.message) = (State::Due(Stop::Exec), tid);
            self.tasks.insert(process, task);
        }
    }

    /// Returns the tasks that wait4(2) has news of.
    fn reportable(&self) -> Vec<i32> {
        let has_news = |(tid, task): (&i32, &FakeTask)| {
            let has = match task.state {
                State::Due(_) => true,
                // The end of a first thread is that of its process.
                State::Dead(_) => *tid != task.process || self.others(*tid).is_empty(),
                _ => false,
            };
            has.then_some(*tid)
        };
        self.tasks.iter().filter_map(has_news).collect()
    }

    fn report(&mut self, tid: i32) -> Waited {
        self.log
            .push(format!("report {tid} {:?}", self.tasks[&tid].state));
        let task = self.tasks.get_mut(&tid).expect("it has news");
        match task.state {
            State::Due(stop) => {
                task.state = State::Stopped(stop);
                Waited::Stopped(Stopped::reported(Tid::new(tid), stop))
            }
            State::Dead(exit) => {
                let creator = task.creator;
                let has_parent = self.tasks.values().any(|task| task.process == creator);
                let task = self.tasks.remove(&tid).expect("it has news");
                self.reaped += u64::from(task.process == tid && !has_parent);
                Waited::Ended(exit)
            }
            _ => unreachable!("it has news"),
        }
    }

    fn requested(&mut self) {
        if let Some((left, process)) = self.ambush {
            self.ambush = left.checked_sub(1).map(|left| (left, process));
            if left == 0 {
                self.log.push(format!("kill {process}"));
                self.kill(process);
            }
        }
    }

    fn create(&mut self, creator: i32, thread: bool, by: CreatedBy) {
        self.last += 1;
        let child = self.last;
        let task = self.tasks.get_mut(&creator).expect("it runs");
        (task.state, task.message) = (State::Due(Stop::Created(by)), child);
        let born = FakeTask {
            process: if thread { task.process } else { child },
            creator: task.process,
            state: State::Due(Stop::Trap),
            ..task.clone()
        };
        self.tasks.insert(child, born);
    }

    fn step(&mut self, tid: i32, step: Step) {
        self.log.push(format!("{tid} {step:?}"));
        let process = self.tasks[&tid].process;
        match step {
            Step::Kill => return self.kill(process),
            Step::Ambush(requests) => {
                self.ambush = Some((requests, process));
                return;
            }
            Step::Continue => {
                for task in self.tasks.values_mut() {
                    if task.process == process && task.state == State::Listening {
                        task.state = State::Due(Stop::Trap);
                    }
                }
                return;
            }
            Step::Idle => {
                self.now += LONG;
                return;
            }
            _ => {}
        }
        let task = self.tasks.get_mut(&tid).expect("it was chosen");
        if task.state != State::Running {
            return;
        }
        match step {
            Step::Fork(by) => self.create(tid, false, by),
            Step::Thread => self.create(tid, true, CreatedBy::Clone),
            Step::Exec => {
                task.state = State::Executing;
                for other in self.others(tid) {
                    self.die(other, KILLED);
                }
                self.complete_execs();
            }
            Step::Call(result) => {
                (task.state, task.result, task.awaited) =
                    (State::Due(Stop::Filtered), result, true);
            }
            Step::Ask => (task.state, task.awaited) = (State::Due(Stop::Filtered), false),
            Step::Signal(signal) => task.state = State::Due(Stop::Signal(signal)),
            Step::Exit => self.die(tid, Exit::Code(1)),
            Step::ExitGroup => {
                for tid in self.others(tid).into_iter().chain([tid]) {
                    self.die(tid, Exit::Code(2));
                }
            }
            _ => unreachable!("it is seen to above"),
        }
    }
}

#[derive(Clone)]
struct Fake(Rc<RefCell<World>>);

impl Fake {
    fn new() -> Self {
        let root = FakeTask {
            process: ROOT,
            creator: 1,
            options: FILTERED,
            state: State::Due(Stop::Exec),
            message: ROOT,
            exit: Exit::Code(0),
            result: 0,
            awaited: false,
        };
        Self(Rc::new(RefCell::new(World {
            now: Instant::now(),
            tasks: BTreeMap::from([(ROOT, root)]),
            last: ROOT,
            ambush: None,
            reaped: 0,
            log: Vec::new(),
        })))
    }

    fn of<T>(&self, tid: Tid, what: impl FnOnce(&FakeTask) -> Option<T>) -> Option<T> {
        self.0.borrow_mut().requested();
        self.0.borrow().tasks.get(&tid.raw()).and_then(what)
    }
}

const FILTERED: Options = Options {
    filtered: true,
    exits: false,
    suspended: false,
};

impl Kernel for Fake {
    fn end(&self, stopped: Stopped, how: End) -> Result<(), Errno> {
        let (tid, at) = (stopped.tid().raw(), stopped.at());
        stopped.over();
        let mut world = self.0.borrow_mut();
        world.log.push(format!("{tid} {at:?} {how:?}"));
        let log = world.log.clone();
        let Some(task) = world.tasks.get_mut(&tid) else {
            return Err(Errno::ESRCH);
        };
        match task.state {
            State::Stopped(stop) => assert_eq!(stop, at, "another stop of {tid} is ended"),
            State::Due(Stop::Exit) => {
                // A first thread would be a zombie that its parent cannot see.
                assert!(
                    tid != task.process || tid == ROOT,
                    "the exit of {tid} is passed by: {log:#?}"
                );
                task.state = State::Dead(task.exit);
                world.complete_execs();
                return Ok(());
            }
            State::Dead(_) => return Err(Errno::ESRCH),
            state => panic!("{tid} is resumed although it is {state:?}: {log:#?}"),
        }
        task.state = match (at, how) {
            (Stop::Exit, End::Detach(None)) => {
                world.tasks.remove(&tid);
                world.complete_execs();
                return Ok(());
            }
            (Stop::Exit, _) => State::Dead(task.exit),
            (Stop::Group(_), End::Listen) => State::Listening,
            (_, End::ToCall(None)) => State::Due(Stop::Syscall),
            (Stop::Signal(libc::SIGSTOP), End::Resume(Some(_))) => {
                State::Due(Stop::Group(libc::SIGSTOP))
            }
            (Stop::Signal(libc::SIGTERM), End::Resume(Some(_))) => {
                let process = task.process;
                task.state = State::Running;
                world.kill(process);
                return Ok(());
            }
            (_, End::Resume(_)) => State::Running,
            _ => panic!("{at:?} of {tid} is ended by {how:?}"),
        };
        world.complete_execs();
        Ok(())
    }

    fn set_options(&self, tid: Tid, options: Options) -> Result<(), Errno> {
        let mut world = self.0.borrow_mut();
        world.requested();
        let task = world.tasks.get_mut(&tid.raw()).ok_or(Errno::ESRCH)?;
        match task.state {
            State::Due(_) | State::Stopped(_) => task.options = options,
            _ => return Err(Errno::ESRCH),
        }
        Ok(())
    }

    fn event_message(&self, tid: Tid) -> Option<Tid> {
        self.of(tid, |task| match task.state {
            State::Stopped(_) => Some(Tid::new(task.message)),
            _ => None,
        })
    }

    fn exit_to_be(&self, tid: Tid) -> Option<Exit> {
        self.of(tid, |task| Some(task.exit))
    }

    fn syscall_info(&self, tid: Tid) -> Option<SyscallInfo> {
        let number = |awaited| match awaited {
            // PTRACE_TRACEME
            true => Sysno::ptrace as u64,
            false => Sysno::getpid as u64,
        };
        self.of(tid, |task| match task.state {
            State::Stopped(Stop::Filtered) => Some(SyscallInfo::Entry(Syscall {
                arch: crate::sys::arch::NATIVE_ARCHITECTURE,
                number: number(task.awaited),
                args: [0; 6],
            })),
            State::Stopped(Stop::Syscall) => Some(SyscallInfo::Exit(task.result)),
            _ => None,
        })
    }

    fn signal_origin(&self, tid: Tid) -> Option<(i32, i32)> {
        self.of(tid, |_| Some((libc::SI_USER, ROOT)))
    }

    fn has_news(&self, tid: Tid) -> bool {
        self.0.borrow().reportable().contains(&tid.raw())
    }

    fn news_of(&self, process: Tgid) -> Option<(Waited, RawUsage)> {
        let mut world = self.0.borrow_mut();
        let has = world.reportable().contains(&process.raw());
        has.then(|| (world.report(process.raw()), RawUsage::default()))
    }

    fn usage_of_reaped(&self) -> RawUsage {
        RawUsage {
            user: Duration::from_micros(self.0.borrow().reaped),
            ..RawUsage::default()
        }
    }

    fn kill(&self, process: Tgid) {
        self.0.borrow_mut().kill(process.raw());
    }

    fn leads(&self, tid: Tid) -> bool {
        let world = self.0.borrow();
        (world.tasks.get(&tid.raw())).is_some_and(|task| task.process == tid.raw())
    }

    fn likely_creator(&self, tid: Tid) -> Option<Tgid> {
        self.of(tid, |task| Some(Tgid::new(task.creator)))
    }

    fn now(&self) -> Instant {
        self.0.borrow().now
    }
}

/// A tracer on that kernel, and all that it reported.
struct Run {
    kernel: Fake,
    tasks: Tasks<Fake>,
    events: Vec<TraceEvent>,
}

impl Run {
    fn new() -> Self {
        let kernel = Fake::new();
        let root = Root {
            level: TraceLevel::Io,
            options: FILTERED,
            ..root(ROOT)
        };
        Self {
            tasks: Tasks::with(root, kernel.clone()),
            kernel,
            events: Vec::new(),
        }
    }

    /// Takes news of one task. Returns whether there was any.
    fn wait(&mut self, choice: u8) -> bool {
        let reportable = self.kernel.0.borrow().reportable();
        let Some(tid) = reportable.get(usize::from(choice) % reportable.len().max(1)) else {
            return false;
        };
        let waited = self.kernel.0.borrow_mut().report(*tid);
        self.kernel.0.borrow_mut().complete_execs();
        let events = &mut self.events;
        let mut observer = |event: &TraceEvent| events.push(event.clone());
        let usage = RawUsage::default();
        self.tasks
            .handle(Tid::new(*tid), waited, usage, &mut observer);
        self.check();
        true
    }

    fn idle(&mut self) {
        self.kernel.0.borrow_mut().now += LONG;
        self.tasks.release_overdue(&mut |_: &TraceEvent| {});
        self.check();
    }

    /// Returns whether a task may not have been traced.
    fn doubts(&self) -> bool {
        let doubt = TraceEventKind::Doubt(Doubt::UntracedTask);
        self.events.iter().any(|event| event.kind == doubt)
    }

    /// The tasks that stand still are those that were put aside.
    fn check(&self) {
        let world = self.kernel.0.borrow();
        let still = |(tid, task): (&i32, &FakeTask)| {
            matches!(task.state, State::Stopped(_)).then_some(Tid::new(*tid))
        };
        let still: BTreeSet<Tid> = world.tasks.iter().filter_map(still).collect();
        let aside: BTreeSet<Tid> = self.tasks.aside.tids().collect();
        let lost: Vec<_> = still.difference(&aside).collect();
        assert!(
            lost.is_empty(),
            "{lost:?} stand still for good: {:#?}",
            world.log
        );
    }

    fn finish(&mut self) {
        while self.wait(0) {}
        self.idle();
        while self.wait(0) {}
        assert_eq!(
            self.tasks.aside.tids().count(),
            0,
            "a task is held for ever"
        );
        self.tasks.kill();
        while self.wait(0) {}
        let world = self.kernel.0.borrow();
        let log = &world.log;
        assert!(world.tasks.is_empty(), "{log:#?}");
        assert_eq!(self.tasks.alive().collect::<Vec<_>>(), [0; 0], "{log:#?}");
        assert!(!self.tasks.holds());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_stopped_task_is_resumed_exactly_once(
        steps in prop::collection::vec((any::<u8>(), step()), 1..80)
    ) {
        let mut run = Run::new();
        for (choice, step) in steps {
            if matches!(step, Step::Wait) {
                run.wait(choice);
                continue;
            }
            let mut world = run.kernel.0.borrow_mut();
            let tids: Vec<i32> = world.tasks.keys().copied().collect();
            if let Some(tid) = tids.get(usize::from(choice) % tids.len().max(1)) {
                world.step(*tid, step);
            }
        }
        run.finish();
        let created = |event: &TraceEvent| match &event.kind {
            TraceEventKind::Created(created) => Some(created.child),
            _ => None,
        };
        let created: Vec<i32> = run.events.iter().filter_map(created).collect();
        let once: BTreeSet<i32> = created.iter().copied().collect();
        prop_assert_eq!(created.len(), once.len(), "a creation was reported twice");
        prop_assert!(!run.doubts(), "every task was traced");
    }
}

#[test]
fn a_creator_goes_on_after_the_first_stop_of_what_it_has_created() {
    let mut run = Run::new();
    run.wait(0);
    // Each event comes first once, and the creator has a child already the second time.
    for (first, child) in [(0, ROOT + 1), (1, ROOT + 2), (0, ROOT + 3)] {
        let begin = {
            let mut world = run.kernel.0.borrow_mut();
            world.step(ROOT, Step::Fork(CreatedBy::Fork));
            world.log.len()
        };
        run.wait(first);
        run.wait(0);
        let world = run.kernel.0.borrow();
        let ends = |tid: i32| {
            let begins = format!("{tid} ");
            let mut log = world.log.iter().skip(begin);
            log.position(|line| line.starts_with(&begins) && line.contains("Resume"))
        };
        let (child, creator) = (ends(child), ends(ROOT));
        assert!(child.is_some() && child < creator, "{:#?}", world.log);
    }
    run.finish();
}

#[test]
fn a_creator_that_was_replaced_by_its_thread_is_not_resumed_in_another_stop() {
    let mut run = Run::new();
    run.wait(0);
    let step = |run: &Run, tid, step| run.kernel.0.borrow_mut().step(tid, step);
    step(&run, ROOT, Step::Fork(CreatedBy::Fork));
    // The event of the creation first: the creator waits for the child's first stop.
    run.wait(0);
    assert_eq!(run.tasks.aside.tids().count(), 1);
    step(&run, ROOT, Step::Kill);
    assert!(run.wait(0), "its exit");
    assert_eq!(run.tasks.aside.tids().count(), 0);
    run.finish();
}

#[test]
fn a_thread_whose_process_ends_before_its_first_stop_is_no_doubt() {
    let mut run = Run::new();
    run.wait(0);
    let step = |run: &Run, tid, step| run.kernel.0.borrow_mut().step(tid, step);
    step(&run, ROOT, Step::Thread);
    run.wait(0);
    run.wait(0);
    step(&run, ROOT + 1, Step::Thread);
    // Its creator stands at the event, and will never report it.
    step(&run, ROOT, Step::ExitGroup);
    run.finish();
    assert!(!run.doubts());
}

#[test]
fn an_orphan_that_was_not_traced_is_a_doubt() {
    let mut run = Run::new();
    run.wait(0);
    {
        let mut world = run.kernel.0.borrow_mut();
        let orphan = FakeTask {
            process: ROOT + 1,
            creator: 1,
            state: State::Dead(Exit::Code(0)),
            ..world.tasks[&ROOT].clone()
        };
        world.tasks.insert(ROOT + 1, orphan);
    }
    run.finish();
    assert!(run.doubts());
}
