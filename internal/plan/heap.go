package plan

import "container/heap"

// A queue gives back the least of its values first.
type queue[T any] struct {
	values []T
	less   func(a, b T) bool
}

func (q *queue[T]) Len() int           { return len(q.values) }
func (q *queue[T]) Less(i, j int) bool { return q.less(q.values[i], q.values[j]) }
func (q *queue[T]) Swap(i, j int)      { q.values[i], q.values[j] = q.values[j], q.values[i] }
func (q *queue[T]) Push(v any)         { q.values = append(q.values, v.(T)) }
func (q *queue[T]) Pop() any {
	last := len(q.values) - 1
	v := q.values[last]
	q.values = q.values[:last]
	return v
}

func (q *queue[T]) add(v T)   { heap.Push(q, v) }
func (q *queue[T]) take() T   { return heap.Pop(q).(T) }
func (q *queue[T]) first() T  { return q.values[0] }
func (q *queue[T]) any() bool { return len(q.values) > 0 }
