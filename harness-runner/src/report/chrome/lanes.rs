//! Places spans on tracks so that the spans of a track nest.

use std::time::Duration;

/// The tracks of one attempt.
#[derive(Debug)]
pub(super) struct Lanes {
    /// The ends of the spans that are open on each track, the innermost last.
    open: Vec<Vec<Duration>>,
    most: usize,
    /// The number of spans that no track had room for.
    pub(super) without_place: usize,
}

impl Lanes {
    /// Returns tracks of which the first has a span that ends at `end`.
    pub(super) fn below(end: Duration, most: usize) -> Self {
        Self {
            open: vec![vec![end]],
            most,
            without_place: 0,
        }
    }

    /// Returns the track of a span: the first where it is inside of what is open, or alone. Spans come in
    /// the order of their starts; of those that start together the longest first.
    pub(super) fn place(&mut self, start: Duration, end: Duration) -> Option<usize> {
        for (number, lane) in self.open.iter_mut().enumerate() {
            while lane.pop_if(|open| *open <= start && *open < end).is_some() {}
            if lane.last().is_none_or(|open| *open >= end) {
                lane.push(end);
                return Some(number);
            }
        }
        if self.open.len() == self.most {
            self.without_place += 1;
            return None;
        }
        self.open.push(vec![end]);
        Some(self.open.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(spans: &[(u64, u64)], most: usize) -> Vec<Option<usize>> {
        let mut lanes = Lanes::below(Duration::from_secs(100), most);
        let secs = Duration::from_secs;
        let placed = spans
            .iter()
            .map(|span| lanes.place(secs(span.0), secs(span.1)));
        placed.collect()
    }

    #[test]
    fn spans_that_contain_each_other_or_follow_share_a_track() {
        let spans = [(0, 50), (1, 10), (10, 20), (60, 100)];
        assert_eq!(placed(&spans, 8), [Some(0); 4]);
    }

    #[test]
    fn spans_that_overlap_have_tracks_of_their_own_as_long_as_there_are_any() {
        let spans = [(0, 10), (1, 20), (2, 30), (12, 15)];
        assert_eq!(placed(&spans, 2), [Some(0), Some(1), None, Some(0)]);
    }
}
