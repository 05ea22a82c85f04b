"""The kernels of triton.py: tiles of 16 to 64 queries by as many keys, one program a tile's row or column.

Only triton.py imports this file, since importing it needs triton. `forward` and `backward_queries` run one
program for each block of queries of each head of each row, which walks over the tiles of keys that the block sees;
`backward_keys` one for each block of keys, which walks over the queries that see it. No two programs write to one
place, so results do not depend on the order they run in.

Tiles lie like this, for a block that begins at query q, and `reach` frames before it in the first tile::

        q - reach         q              low, high        what a query sees: [low[i], high[i]), from key_ranges.py
        |  tile 0 | tile 1 | tile 2 |    masked           a tile that some query sees in part: compared key by key
      q  ..#######|########|#.......     whole            a tile that every query sees: no comparison, no mask
         ...######|########|##......
         ....#####|########|###.....     first .. whole_first .. whole_stop .. stop
         .....####|########|####....           masked       whole        masked

Tiles lie at the same distances from every block, so that sums by distance, the gradient of a relative-bias table, are
sums by place in a tile. A row is a batch row; its length clips `high`, and what lies past it is never loaded. Scores
are kept in float32; weights are exp2((score - most) * log2(e) - log2(total)). A query's largest score and the
logarithm of its sum are kept apart, in SUMS [B, H, T, 2]: float32 has no room for the second beside a large first.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

LOG2_E = tl.constexpr(1.4426950408889634)
"""Multiplied after the largest score is taken away: before, equal sums of a large score and a bias would differ."""


@triton.jit
def _load(x, stride, rows, start, stop, columns, WIDTH: tl.constexpr, CHECK: tl.constexpr):
    """Rows [n, columns] of a matrix; if CHECK, zeros for rows outside [start, stop)."""
    place = x + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    if CHECK:
        there = ((rows >= start) & (rows < stop))[:, None] & (columns < WIDTH)[None, :]
        return tl.load(place, mask=there, other=0.0)
    elif columns.shape[0] != WIDTH:
        return tl.load(place, mask=(columns < WIDTH)[None, :], other=0.0)
    else:
        return tl.load(place)


@triton.jit
def _store(x, stride, rows, stop, columns, values, WIDTH: tl.constexpr):
    """Write rows [n, columns] of a matrix, those before `stop`."""
    place = x + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(place, values.to(x.dtype.element_ty), mask=(rows < stop)[:, None] & (columns < WIDTH)[None, :])


@triton.jit
def _place(frames, heads, BLOCK: tl.constexpr):
    """(first frame of the block, head, row) of this program: neighbours in a head run beside each other."""
    program = tl.program_id(0)
    blocks = tl.cdiv(frames, BLOCK)
    pair = program // blocks
    return program % blocks * BLOCK, (pair % heads).to(tl.int64), (pair // heads).to(tl.int64)


@triton.jit
def _length(LENGTHS, row, frames):
    if LENGTHS is None:
        return frames
    else:
        return tl.load(LENGTHS + row).to(tl.int32)


@triton.jit
def _tiles(LOW, HIGH, start, length, reach, BLOCK: tl.constexpr):
    """Of the tiles of a block of queries: first, whole_first, whole_stop, stop, and the keys [key_start, key_stop)."""
    last = tl.minimum(start + BLOCK, length) - 1
    key_start = tl.load(LOW + start)
    key_stop = tl.minimum(tl.load(HIGH + last), length)
    base = start - reach  # never more than a key that is seen, so that nothing below is negative
    first = (key_start - base) // BLOCK
    stop = (key_stop - base + BLOCK - 1) // BLOCK
    whole_first = (tl.load(LOW + last) - base + BLOCK - 1) // BLOCK
    whole_stop = (tl.minimum(tl.load(HIGH + start), length) - base) // BLOCK
    whole_first = tl.minimum(whole_first, stop)
    return first, whole_first, tl.maximum(whole_first, whole_stop), stop, key_start, key_stop


@triton.jit
def _biases(TABLE, distances, first_offset, offsets):
    """Biases of a tile by key minus query; past an end of the table, that end."""
    return tl.load(TABLE + tl.minimum(tl.maximum(distances - first_offset, 0), offsets - 1))


@triton.jit
def _weight(score, most, rest):
    """Return the weight of a score.

    A score above `most` is that same score, computed by a product that rounds its sums otherwise.
    """
    score -= most
    return tl.exp2(tl.where(score > 0, 0.0, score) * LOG2_E - rest)


@triton.jit
def _forward_tiles(
    most, total, values, q, K, V, k_t, v_t, TABLE, first_offset, offsets, queries, low, high, key_start, key_stop,
    base, first, stop, scale, MASKED: tl.constexpr, RELU: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Take the tiles [first, stop) into the running (largest score, sum of weights, weighted values)."""
    depth, width = tl.arange(0, q.shape[1]), tl.arange(0, values.shape[1])
    for tile in range(first, stop):
        keys = base + tile * BLOCK + tl.arange(0, BLOCK)
        k = _load(K, k_t, keys, key_start, key_stop, depth, DEPTH, MASKED)
        score = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if TABLE is not None:
            score += _biases(TABLE, keys[None, :] - queries[:, None], first_offset, offsets)
        if MASKED:
            seen = (keys[None, :] >= low[:, None]) & (keys[None, :] < high[:, None])
            score = tl.where(seen, score, float("-inf"))
        if RELU:
            weight = tl.maximum(score, 0.0)
        else:
            larger = tl.maximum(most, tl.max(score, 1))
            weight = tl.exp2((score - larger[:, None]) * LOG2_E)
            shrink = tl.exp2((most - larger) * LOG2_E)
            most, total = larger, total * shrink + tl.sum(weight, 1)
            values *= shrink[:, None]
        v = _load(V, v_t, keys, key_start, key_stop, width, WIDTH, MASKED)
        values = tl.dot(weight.to(v.dtype), v, values, input_precision=PRECISION)
    return most, total, values


@triton.jit(do_not_specialize=["frames", "reach", "first_offset", "offsets"])
def forward(
    Q, K, V, OUTPUT, SUMS, TABLE, LENGTHS, LOW, HIGH,
    q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t, o_b, o_h, o_t,
    heads, frames, reach, first_offset, offsets, scale,
    RELU: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr, BLOCK_DEPTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Output, and SUMS: the largest score of a query, and the log2 of the sum that divides its weights."""
    start, head, row = _place(frames, heads, BLOCK)
    length = _length(LENGTHS, row, frames)
    queries = start + tl.arange(0, BLOCK)
    depth, width = tl.arange(0, BLOCK_DEPTH), tl.arange(0, BLOCK_WIDTH)
    OUTPUT += row * o_b + head * o_h
    SUMS += (row * heads + head) * 2 * frames
    if start >= length:
        _store(OUTPUT, o_t, queries, frames, width, tl.zeros((BLOCK, BLOCK_WIDTH), tl.float32), WIDTH)
        return
    K += row * k_b + head * k_h
    V += row * v_b + head * v_h
    if TABLE is not None:
        TABLE += head * offsets
    q = _load(Q + row * q_b + head * q_h, q_t, queries, 0, length, depth, DEPTH, True)
    low = tl.load(LOW + queries, mask=queries < length, other=0)
    high = tl.minimum(tl.load(HIGH + queries, mask=queries < length, other=0), length)
    first, whole_first, whole_stop, stop, key_start, key_stop = _tiles(LOW, HIGH, start, length, reach, BLOCK)
    base = start - reach
    # Not -inf: a query that sees no key of the first tile would subtract it from itself.
    most = tl.full((BLOCK,), -3e38, tl.float32)
    total, values = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK, BLOCK_WIDTH), tl.float32)
    most, total, values = _forward_tiles(
        most, total, values, q, K, V, k_t, v_t, TABLE, first_offset, offsets, queries, low, high, key_start, key_stop,
        base, first, whole_first, scale, True, RELU, DEPTH, WIDTH, BLOCK, PRECISION,
    )  # fmt: skip
    most, total, values = _forward_tiles(
        most, total, values, q, K, V, k_t, v_t, TABLE, first_offset, offsets, queries, low, high, key_start, key_stop,
        base, whole_first, whole_stop, scale, False, RELU, DEPTH, WIDTH, BLOCK, PRECISION,
    )  # fmt: skip
    most, total, values = _forward_tiles(
        most, total, values, q, K, V, k_t, v_t, TABLE, first_offset, offsets, queries, low, high, key_start, key_stop,
        base, whole_stop, stop, scale, True, RELU, DEPTH, WIDTH, BLOCK, PRECISION,
    )  # fmt: skip
    if RELU:
        total = tl.maximum(high - low, 1).to(tl.float32)
    else:
        total = tl.where(total > 0, total, 1.0)  # every score was -inf, by the table: zeros
        tl.store(SUMS + 2 * queries, most, mask=queries < length)
        tl.store(SUMS + 2 * queries + 1, tl.log2(total), mask=queries < length)
    values = tl.where((queries < length)[:, None], values / total[:, None], 0.0)
    _store(OUTPUT, o_t, queries, frames, width, values, WIDTH)


@triton.jit
def _query_tiles(
    grad_q, carried, q, grad, most, rest, delta, K, V, k_t, v_t, TABLE, PARTIAL, first_offset, offsets, queries, low,
    high, key_start, key_stop, base, first, stop, scale, MASKED: tl.constexpr, RELU: tl.constexpr, DEPTH: tl.constexpr,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Take the tiles [first, stop) into the gradient of the queries, and write sums by distance to PARTIAL."""
    depth, width = tl.arange(0, q.shape[1]), tl.arange(0, grad.shape[1])
    for tile in range(first, stop):
        keys = base + tile * BLOCK + tl.arange(0, BLOCK)
        k = _load(K, k_t, keys, key_start, key_stop, depth, DEPTH, MASKED)
        v = _load(V, v_t, keys, key_start, key_stop, width, WIDTH, MASKED)
        score = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if TABLE is not None:
            score += _biases(TABLE, keys[None, :] - queries[:, None], first_offset, offsets)
        if MASKED:
            seen = (keys[None, :] >= low[:, None]) & (keys[None, :] < high[:, None])
            score = tl.where(seen, score, float("-inf"))
        grad_weight = tl.dot(grad, tl.trans(v), input_precision=PRECISION)
        if RELU:
            grad_score = tl.where(score > 0, grad_weight, 0.0) / tl.maximum(high - low, 1).to(tl.float32)[:, None]
        else:
            grad_score = _weight(score, most[:, None], rest[:, None]) * (grad_weight - delta[:, None])
        grad_q = tl.dot(grad_score.to(k.dtype), k, grad_q, input_precision=PRECISION)
        if PARTIAL is not None:
            near, far = _by_distance(grad_score, BLOCK)
            tl.store(PARTIAL + tile * BLOCK + tl.arange(0, BLOCK), carried + far)
            carried = near
    return grad_q, carried


@triton.jit
def _by_distance(tile, BLOCK: tl.constexpr):
    """Return two vectors of sums of a tile over its diagonals.

    Place c holds key minus query = c in the first, c - BLOCK in the second.

    Row m is turned left by m places: its entry for distance c, or c - BLOCK where it came around, comes to place c.
    """
    place, m = tl.arange(0, BLOCK)[None, :], tl.arange(0, BLOCK)[:, None]
    turned = tl.gather(tile, (place + m) % BLOCK, 1)
    came_around = place + m >= BLOCK
    return tl.sum(tl.where(came_around, 0.0, turned), 0), tl.sum(tl.where(came_around, turned, 0.0), 0)


@triton.jit(do_not_specialize=["frames", "reach", "slots", "first_offset", "offsets"])
def backward_queries(
    Q, K, V, OUTPUT, GRAD, SUMS, DELTA, GRAD_Q, PARTIAL, TABLE, LENGTHS, LOW, HIGH,
    q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t, o_b, o_h, o_t, g_b, g_h, g_t, gq_b, gq_h, gq_t,
    heads, frames, reach, slots, first_offset, offsets, scale,
    RELU: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr, BLOCK_DEPTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradient of the queries; delta, the sum over a query's features of output times gradient; sums by distance.

    Softmax turns the gradient of weights dP into that of scores P * (dP - sum P dP), and that sum is delta.
    """
    start, head, row = _place(frames, heads, BLOCK)
    length = _length(LENGTHS, row, frames)
    queries = start + tl.arange(0, BLOCK)
    depth, width = tl.arange(0, BLOCK_DEPTH), tl.arange(0, BLOCK_WIDTH)
    GRAD_Q += row * gq_b + head * gq_h
    pair = (row * heads + head) * frames
    if start >= length:
        _store(GRAD_Q, gq_t, queries, frames, depth, tl.zeros((BLOCK, BLOCK_DEPTH), tl.float32), DEPTH)
        return
    K += row * k_b + head * k_h
    V += row * v_b + head * v_h
    if TABLE is not None:
        TABLE += head * offsets
    if PARTIAL is not None:
        PARTIAL += tl.program_id(0).to(tl.int64) * slots * BLOCK
    q = _load(Q + row * q_b + head * q_h, q_t, queries, 0, length, depth, DEPTH, True)
    grad = _load(GRAD + row * g_b + head * g_h, g_t, queries, 0, length, width, WIDTH, True)
    valid = queries < length
    low = tl.load(LOW + queries, mask=valid, other=0)
    high = tl.minimum(tl.load(HIGH + queries, mask=valid, other=0), length)
    most, rest = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    delta = tl.zeros((BLOCK,), tl.float32)
    if not RELU:
        most = tl.load(SUMS + 2 * (pair + queries), mask=valid, other=float("inf"))  # exp2(score - inf) is 0
        rest = tl.load(SUMS + 2 * (pair + queries) + 1, mask=valid, other=0.0)
        output = _load(OUTPUT + row * o_b + head * o_h, o_t, queries, 0, length, width, WIDTH, True)
        delta = tl.sum(output.to(tl.float32) * grad.to(tl.float32), 1)
        tl.store(DELTA + pair + queries, delta, mask=valid)
    first, whole_first, whole_stop, stop, key_start, key_stop = _tiles(LOW, HIGH, start, length, reach, BLOCK)
    base = start - reach
    grad_q, carried = tl.zeros((BLOCK, BLOCK_DEPTH), tl.float32), tl.zeros((BLOCK,), tl.float32)
    grad_q, carried = _query_tiles(
        grad_q, carried, q, grad, most, rest, delta, K, V, k_t, v_t, TABLE, PARTIAL, first_offset, offsets, queries,
        low, high, key_start, key_stop, base, first, whole_first, scale, True, RELU, DEPTH, WIDTH, BLOCK, PRECISION,
    )  # fmt: skip
    grad_q, carried = _query_tiles(
        grad_q, carried, q, grad, most, rest, delta, K, V, k_t, v_t, TABLE, PARTIAL, first_offset, offsets, queries,
        low, high, key_start, key_stop, base, whole_first, whole_stop, scale, False, RELU, DEPTH, WIDTH, BLOCK,
        PRECISION,
    )  # fmt: skip
    grad_q, carried = _query_tiles(
        grad_q, carried, q, grad, most, rest, delta, K, V, k_t, v_t, TABLE, PARTIAL, first_offset, offsets, queries,
        low, high, key_start, key_stop, base, whole_stop, stop, scale, True, RELU, DEPTH, WIDTH, BLOCK, PRECISION,
    )  # fmt: skip
    if PARTIAL is not None:
        tl.store(PARTIAL + stop * BLOCK + tl.arange(0, BLOCK), carried)
    _store(GRAD_Q, gq_t, queries, frames, depth, grad_q * scale, DEPTH)


@triton.jit
def _key_tiles(
    grad_k, grad_v, k, v, Q, GRAD, SUMS, DELTA, q_t, g_t, TABLE, LOW, HIGH, first_offset, offsets, keys, length, start,
    stop, first, last, scale, MASKED: tl.constexpr, RELU: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Take the tiles [first, last) of the queries [start, stop) into the gradients of keys and values."""
    depth, width = tl.arange(0, k.shape[1]), tl.arange(0, v.shape[1])
    for tile in range(first, last):
        queries = start + tile * BLOCK + tl.arange(0, BLOCK)
        there = queries < stop
        q = _load(Q, q_t, queries, start, stop, depth, DEPTH, MASKED)
        grad = _load(GRAD, g_t, queries, start, stop, width, WIDTH, MASKED)
        score = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale
        if TABLE is not None:
            score += _biases(TABLE, keys[:, None] - queries[None, :], first_offset, offsets)
        if MASKED or RELU:
            low = tl.load(LOW + queries, mask=there, other=0)
            high = tl.minimum(tl.load(HIGH + queries, mask=there, other=0), length)
        if MASKED:
            seen = (keys[:, None] >= low[None, :]) & (keys[:, None] < high[None, :])
            score = tl.where(seen, score, float("-inf"))
        grad_weight = tl.dot(v, tl.trans(grad), input_precision=PRECISION)
        if RELU:
            number = tl.maximum(high - low, 1).to(tl.float32)[None, :]
            weight = tl.maximum(score, 0.0) / number
            grad_score = tl.where(score > 0, grad_weight, 0.0) / number
        else:
            most = tl.load(SUMS + 2 * queries, mask=there, other=float("inf"))
            rest = tl.load(SUMS + 2 * queries + 1, mask=there, other=0.0)
            delta = tl.load(DELTA + queries, mask=there, other=0.0)
            weight = _weight(score, most[None, :], rest[None, :])
            grad_score = weight * (grad_weight - delta[None, :])
        grad_v = tl.dot(weight.to(grad.dtype), grad, grad_v, input_precision=PRECISION)
        grad_k = tl.dot(grad_score.to(q.dtype), q, grad_k, input_precision=PRECISION)
    return grad_k, grad_v


@triton.jit(do_not_specialize=["frames", "first_offset", "offsets"])
def backward_keys(
    Q, K, V, GRAD, SUMS, DELTA, GRAD_K, GRAD_V, TABLE, LENGTHS, LOW, HIGH, SOME_FIRST, SOME_STOP, EVERY_FIRST,
    EVERY_STOP, q_b, q_h, q_t, k_b, k_h, k_t, v_b, v_h, v_t, g_b, g_h, g_t, gk_b, gk_h, gk_t, gv_b, gv_h, gv_t,
    heads, frames, first_offset, offsets, scale,
    RELU: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr, BLOCK_DEPTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values, after `backward_queries`, which leaves delta."""
    start, head, row = _place(frames, heads, BLOCK)
    length = _length(LENGTHS, row, frames)
    keys = start + tl.arange(0, BLOCK)
    depth, width = tl.arange(0, BLOCK_DEPTH), tl.arange(0, BLOCK_WIDTH)
    GRAD_K += row * gk_b + head * gk_h
    GRAD_V += row * gv_b + head * gv_h
    grad_k, grad_v = tl.zeros((BLOCK, BLOCK_DEPTH), tl.float32), tl.zeros((BLOCK, BLOCK_WIDTH), tl.float32)
    if start >= length:
        _store(GRAD_K, gk_t, keys, frames, depth, grad_k, DEPTH)
        _store(GRAD_V, gv_t, keys, frames, width, grad_v, WIDTH)
        return
    Q += row * q_b + head * q_h
    GRAD += row * g_b + head * g_h
    SUMS += (row * heads + head) * 2 * frames
    DELTA += (row * heads + head) * frames
    if TABLE is not None:
        TABLE += head * offsets
    k = _load(K + row * k_b + head * k_h, k_t, keys, 0, length, depth, DEPTH, True)
    v = _load(V + row * v_b + head * v_h, v_t, keys, 0, length, width, WIDTH, True)
    block = start // BLOCK
    first, stop = tl.load(SOME_FIRST + block), tl.minimum(tl.load(SOME_STOP + block), length)
    whole_first, whole_stop = tl.load(EVERY_FIRST + block), tl.minimum(tl.load(EVERY_STOP + block), length)
    if start + BLOCK > length:  # some keys are padding, which no query sees
        whole_stop = whole_first
    tiles = (stop - first + BLOCK - 1) // BLOCK
    whole_first = tl.minimum((tl.maximum(whole_first - first, 0) + BLOCK - 1) // BLOCK, tiles)
    whole_stop = tl.maximum(tl.maximum(whole_stop - first, 0) // BLOCK, whole_first)
    grad_k, grad_v = _key_tiles(
        grad_k, grad_v, k, v, Q, GRAD, SUMS, DELTA, q_t, g_t, TABLE, LOW, HIGH, first_offset, offsets, keys, length,
        first, stop, 0, whole_first, scale, True, RELU, DEPTH, WIDTH, BLOCK, PRECISION,
    )  # fmt: skip
    grad_k, grad_v = _key_tiles(
        grad_k, grad_v, k, v, Q, GRAD, SUMS, DELTA, q_t, g_t, TABLE, LOW, HIGH, first_offset, offsets, keys, length,
        first, stop, whole_first, whole_stop, scale, False, RELU, DEPTH, WIDTH, BLOCK, PRECISION,
    )  # fmt: skip
    grad_k, grad_v = _key_tiles(
        grad_k, grad_v, k, v, Q, GRAD, SUMS, DELTA, q_t, g_t, TABLE, LOW, HIGH, first_offset, offsets, keys, length,
        first, stop, whole_stop, tiles, scale, True, RELU, DEPTH, WIDTH, BLOCK, PRECISION,
    )  # fmt: skip
    _store(GRAD_K, gk_t, keys, frames, depth, grad_k * scale, DEPTH)
    _store(GRAD_V, gv_t, keys, frames, width, grad_v, WIDTH)
