//! Digests of things that refer to each other, also in circles.

use super::hash;

/// Something with content, and what it refers to.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The digest of its own content.
    pub(super) own: u128,
    /// The digest that stands for it among things that refer to each other in a circle.
    pub(super) label: u128,
    /// The nodes that it rests on, in order.
    pub(super) on: Vec<u32>,
}

/// Returns for each node a digest of its content and of all that it rests on.
///
/// Nodes in a circle share all of their contents (Tarjan's strongly connected components).
pub(super) fn digests(nodes: &[Node]) -> Vec<u128> {
    Walk {
        nodes,
        digests: vec![0; nodes.len()],
        seen: vec![0; nodes.len()],
        low: vec![0; nodes.len()],
        on_stack: vec![false; nodes.len()],
        stack: Vec::new(),
        next: 1,
    }
    .run()
}

struct Walk<'a> {
    nodes: &'a [Node],
    digests: Vec<u128>,
    /// The number of a node in the order of the walk; 0 before that.
    seen: Vec<u32>,
    low: Vec<u32>,
    on_stack: Vec<bool>,
    stack: Vec<u32>,
    next: u32,
}

impl Walk<'_> {
    fn run(mut self) -> Vec<u128> {
        for node in 0..self.nodes.len() {
            if self.seen[node] == 0 {
                self.from(node);
            }
        }
        self.digests
    }

    /// Walks by a stack of its own: chains of references are longer than a thread's stack.
    fn from(&mut self, root: usize) {
        let mut path = vec![(root, 0_usize)];
        self.enter(root);
        while let Some((node, edge)) = path.last_mut() {
            let node = *node;
            let Some(&child) = self.nodes[node].on.get(*edge) else {
                path.pop();
                if let Some((parent, _)) = path.last() {
                    self.low[*parent] = self.low[*parent].min(self.low[node]);
                }
                if self.low[node] == self.seen[node] {
                    self.close(node);
                }
                continue;
            };
            *edge += 1;
            let child = child as usize;
            if self.seen[child] == 0 {
                self.enter(child);
                path.push((child, 0));
            } else if self.on_stack[child] {
                self.low[node] = self.low[node].min(self.seen[child]);
            }
        }
    }

    fn enter(&mut self, node: usize) {
        self.seen[node] = self.next;
        self.low[node] = self.next;
        self.next += 1;
        self.stack.push(node as u32);
        self.on_stack[node] = true;
    }

    /// All that is on the stack from this node on refers to each other.
    fn close(&mut self, node: usize) {
        let from = self.stack.iter().rposition(|it| *it as usize == node);
        let members = self.stack.split_off(from.expect("it is on the stack"));
        let mut own: Vec<(u128, u32)> = members
            .iter()
            .map(|member| (self.member(*member as usize), *member))
            .collect();
        for member in &members {
            self.on_stack[*member as usize] = false;
        }
        if let [(digest, member)] = own[..] {
            self.digests[member as usize] = digest;
            return;
        }
        own.sort_unstable();
        let all: Vec<u8> = own.iter().flat_map(|(it, _)| it.to_le_bytes()).collect();
        let all = hash(&all);
        for (digest, member) in own {
            let both = [all.to_le_bytes(), digest.to_le_bytes()].concat();
            self.digests[member as usize] = hash(&both);
        }
    }

    /// Returns the digest of a member of a circle: for others in it, their labels.
    fn member(&self, node: usize) -> u128 {
        let Node { own, on, .. } = &self.nodes[node];
        let mut bytes = Vec::with_capacity(16 + on.len() * 17);
        bytes.extend_from_slice(&own.to_le_bytes());
        for child in on {
            let child = *child as usize;
            let (mark, digest) = match self.on_stack[child] {
                true => (1, self.nodes[child].label),
                false => (0, self.digests[child]),
            };
            bytes.push(mark);
            bytes.extend_from_slice(&digest.to_le_bytes());
        }
        hash(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(own: u128, on: &[u32]) -> Node {
        Node {
            own,
            label: own,
            on: on.to_vec(),
        }
    }

    #[test]
    fn a_change_is_seen_by_all_that_rest_on_it_and_by_no_others() {
        let before = digests(&[node(1, &[1]), node(2, &[2]), node(3, &[]), node(4, &[])]);
        let after = digests(&[node(1, &[1]), node(2, &[2]), node(9, &[]), node(4, &[])]);
        let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
        assert_eq!(same, [false, false, false, true]);
    }

    #[test]
    fn a_circle_is_changed_as_a_whole_wherever_it_is_entered() {
        // 0 refers to 2, which refers to 1 by way of 3; 4 refers to nothing.
        let circle = |last| {
            let members = [
                node(1, &[2]),
                node(2, &[2]),
                node(3, &[3]),
                node(last, &[1, 2]),
            ];
            members
                .into_iter()
                .chain([node(5, &[])])
                .collect::<Vec<_>>()
        };
        let (before, after) = (digests(&circle(4)), digests(&circle(5)));
        let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
        assert_eq!(same, [false, false, false, false, true]);
    }

    #[test]
    fn the_order_of_nodes_does_not_count() {
        let one = digests(&[node(1, &[1]), node(2, &[2]), node(3, &[0])]);
        let other = digests(&[node(3, &[2]), node(2, &[0]), node(1, &[1])]);
        assert_eq!(one[0], other[2]);
        assert_eq!(one[1], other[1]);
        assert_eq!(one[2], other[0]);
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let count = 300_000;
        let mut chain: Vec<Node> = (1..count).map(|it| node(1, &[it])).collect();
        chain.push(node(7, &[]));
        assert_eq!(digests(&chain).len(), count as usize);
    }
}
