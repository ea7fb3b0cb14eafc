//! The number that the Galera rules judge, for the forms that show numbers. Pure: no I/O, no clock.

use check::{Gauge, Quantity};

use crate::options::Options;
use crate::probe::Facts;

/// The receive queue, on a node of a cluster.
pub(crate) fn measured(facts: &Facts, options: &Options) -> Vec<Gauge> {
    let (value, limit) = (facts.wsrep_local_recv_queue, options.max_recv_queue);
    if !facts.wsrep_on.is_on() {
        return Vec::new();
    }
    let queue = Gauge::new(
        "recv_queue",
        "galera_recv_queue",
        "Write sets that wait to be applied.",
        value.map(Quantity::Count),
    );
    vec![queue.within(None, limit.map(Quantity::Count))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::{options, synced};

    #[test]
    fn a_node_has_a_receive_queue_and_its_limit() {
        let shown = |queue, limit| {
            let facts = Facts { wsrep_local_recv_queue: queue, ..synced() };
            let gauge = measured(&facts, &Options { max_recv_queue: limit, ..options() }).pop().unwrap();
            (gauge.value, gauge.soft_limit, gauge.limit)
        };
        let count = |count| Some(Quantity::Count(count));
        assert_eq!(shown(Some(7), None), (count(7), None, None));
        assert_eq!(shown(Some(7), Some(100)), (count(7), None, count(100)));
        assert_eq!(shown(None, Some(100)), (None, None, count(100)));
        assert!(measured(&Facts::default(), &options()).is_empty());
    }
}
