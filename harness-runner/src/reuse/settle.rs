//! Proves that what a path leads to after a test is what the test met.
//!
//! A look after the test is as good as one before it if nothing has changed meanwhile: the file is the one that the
//! trace names, and its times are older than the test. What cannot be proved refuses the pass.

use super::{
    inputs::{Asked, Inputs, Met},
    state::{Look, State, World, nearest, parent},
    times::{is_in_place, is_older},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Files that a test may leave behind.
const LEFT: usize = 2_000;

/// A path with its state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// The path.
    pub path: Vec<u8>,
    /// Its state.
    pub state: State,
}

impl Fact {
    /// Looks at it again.
    pub(super) fn look(&self, world: &mut dyn World) -> State {
        match &self.state {
            State::Names(_) => world.list(&self.path).state,
            _ => world.look(&self.path).state,
        }
    }
}

/// The facts that a pass rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The inputs, in the order in which they were asked for.
    pub inputs: Vec<Fact>,
    /// The files and folders that it has left, as it has left them.
    pub outputs: Vec<Fact>,
}

/// Looks at what a test asked for; `began` is when it started, since 1970.
///
/// # Errors
///
/// The reason why that is not known.
pub(super) fn settle(
    inputs: &Inputs,
    began: Duration,
    world: &mut dyn World,
) -> Result<Settled, String> {
    if let Some(obstacle) = &inputs.obstacle {
        return Err(obstacle.clone());
    }
    let mut settled = Settled::default();
    for asked in &inputs.asked {
        let path = || String::from_utf8_lossy(&asked.path).into_owned();
        let look = world.look(&asked.path);
        let state = state_of(asked, look, inputs, began, world).map_err(|why| match why {
            Unproved::Changed if asked.open_to_write => {
                format!("it writes to `{}`, which was there before it", path())
            }
            Unproved::Changed => format!("`{}` was changed when it began or later", path()),
            Unproved::Appeared => format!("`{}` was not there, and is now", path()),
            Unproved::Gone => format!("`{}` was there, and is not now", path()),
            Unproved::Another => format!("`{}` is another file than the one it met", path()),
            Unproved::Special => format!("`{}` is no file and no folder", path()),
        })?;
        settled.inputs.push(Fact {
            path: asked.path.clone(),
            state,
        });
        if asked.listed {
            let look = world.list(&asked.path);
            if !is_old(&look, began) {
                let path = path();
                return Err(format!(
                    "names in `{path}` were changed when it began or later"
                ));
            }
            settled.inputs.push(Fact {
                path: asked.path.clone(),
                state: look.state,
            });
        }
    }
    settled.outputs = left(inputs, world)?;
    Ok(settled)
}

/// A reason why a state is not the one that a test met.
#[derive(Copy, Clone)]
enum Unproved {
    Changed,
    Appeared,
    Gone,
    Another,
    Special,
}

fn state_of(
    asked: &Asked,
    look: Look,
    inputs: &Inputs,
    began: Duration,
    world: &mut dyn World,
) -> Result<State, Unproved> {
    let own = inputs.made.has(&asked.path) || inputs.made.has_above(&asked.path);
    match (asked.met, &look.state) {
        (Met::Nothing, State::Absent { .. }) => Ok(absent(asked, inputs, world)),
        (Met::Nothing, _) if own => Ok(absent(asked, inputs, world)),
        (Met::Nothing, _) => Err(Unproved::Appeared),
        (Met::Refusal, State::Refused(_)) => Ok(look.state),
        (_, State::Absent { .. } | State::Refused(_)) => Err(Unproved::Gone),
        (_, State::Other { .. }) => Err(Unproved::Special),
        _ if asked
            .file
            .is_some_and(|file| !look.files.is_empty() && !look.is_of(file)) =>
        {
            Err(Unproved::Another)
        }
        _ if !is_old(&look, began) => Err(Unproved::Changed),
        _ if asked.executed && !folders_stayed(&asked.path, began, world) => Err(Unproved::Changed),
        _ => Ok(look.state),
    }
}

/// Returns nothing at a path, as it was before the test made anything.
fn absent(asked: &Asked, inputs: &Inputs, world: &mut dyn World) -> State {
    let mut is_there = |folder: &[u8]| {
        let found = world.look(folder).state;
        !inputs.made.has(folder) && !matches!(found, State::Absent { .. })
    };
    let mut at = parent(&asked.path).to_vec();
    while at.len() > 1 && !is_there(&at) {
        at = nearest(&at, &|_| true);
    }
    State::Absent { nearest: at }
}

/// Returns whether nothing that was looked at was changed since a moment. Names in a folder are no part of the folder.
fn is_old(look: &Look, moment: Duration) -> bool {
    let folder = matches!(look.state, State::Folder { .. });
    look.files.iter().enumerate().all(|(number, file)| {
        if folder && number == 0 {
            is_in_place(file, moment, look.prompt)
        } else {
            is_older(file, moment, look.prompt)
        }
    })
}

/// Returns whether the folders above a path were not renamed since a moment.
fn folders_stayed(path: &[u8], moment: Duration, world: &mut dyn World) -> bool {
    let mut at = parent(path);
    while at.len() > 1 {
        if !is_old(&world.look(at), moment) {
            return false;
        }
        at = parent(at);
    }
    true
}

/// Returns what a test has left of what it has made.
fn left(inputs: &Inputs, world: &mut dyn World) -> Result<Vec<Fact>, String> {
    let mut left = Vec::new();
    for path in inputs.made.iter() {
        let state = world.look(path).state;
        if matches!(state, State::Absent { .. }) {
            continue;
        }
        if left.len() == LEFT {
            return Err(format!("it leaves more than {LEFT} files behind"));
        }
        left.push(Fact {
            path: path.to_vec(),
            state,
        });
    }
    Ok(left)
}
