//! Doing the same to many partitions: each waits for the disk, so several wait at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// How many partitions are made, renamed or closed at the same time.
pub(crate) const THREADS: usize = 8;

/// Does `work` to all `items`, on up to `threads` threads, and gives the results in the items' order. After the
/// first failure no new item is begun.
pub(crate) fn try_all<Item, Done, Failure>(
    items: Vec<Item>,
    threads: usize,
    work: impl Fn(Item) -> Result<Done, Failure> + Sync,
) -> Result<Vec<Done>, Failure>
where
    Item: Send,
    Done: Send,
    Failure: Send,
{
    let threads = threads.min(items.len());
    if threads <= 1 {
        return items.into_iter().map(work).collect();
    }
    let items: Vec<Mutex<Option<Item>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let done: Vec<Mutex<Option<Done>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failure.lock().is_none() {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(place).and_then(|item| item.lock().take()) else { return };
                    match work(item) {
                        Ok(result) => *done[place].lock() = Some(result),
                        Err(error) => {
                            failure.lock().get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner() {
        Some(failure) => Err(failure),
        None => Ok(done.into_iter().map(|done| done.into_inner().expect("every item was worked on")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let doubled: Result<Vec<usize>, ()> = try_all((0..1000).collect(), 4, |number| Ok(2 * number));
        assert_eq!(doubled.unwrap(), (0..1000).map(|number| 2 * number).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_failure_is_told() {
        let failed = try_all((0..1000).collect(), 4, |number| if number == 500 { Err(number) } else { Ok(()) });
        assert_eq!(failed, Err(500));
    }
}
