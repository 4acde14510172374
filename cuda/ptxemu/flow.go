package ptxemu

// meet finds for each branch where its two ways come together: the first
// instruction that every way from it to the exit passes, its immediate
// post-dominator (Cooper, Harvey and Kennedy 2001, A Simple, Fast Dominance
// Algorithm). The last operation is the exit.
func meet(code []operation) {
	exit := len(code) - 1
	// next returns where control goes from an instruction; -1 stands for nowhere else.
	next := func(pc int) (a, b int) {
		op := &code[pc]
		switch {
		case pc == exit:
			return -1, -1
		case op.kind == branch && op.guard < 0:
			return int(op.target), -1
		case op.kind == branch:
			return int(op.target), pc + 1
		case op.kind == leave && op.guard < 0:
			return exit, -1
		case op.kind == leave:
			return exit, pc + 1
		}
		return pc + 1, -1
	}
	// Predecessors, as lists in two arrays: each instruction has at most two ways out.
	head := make([]int, len(code))
	link := make([]int, 2*len(code))
	for i := range head {
		head[i] = -1
	}
	for pc := range code {
		a, b := next(pc)
		for k, to := range [2]int{a, b} {
			if to >= 0 {
				link[2*pc+k], head[to] = head[to], 2*pc+k
			}
		}
	}
	// Number the instructions from the exit backwards, each behind all that it leads to except along loops.
	order := make([]int, len(code)) // place in a post order of the reversed graph, -1 when the exit cannot be reached
	for i := range order {
		order[i] = -1
	}
	var sequence, stack, edge []int
	seen := make([]bool, len(code))
	stack, edge, seen[exit] = append(stack, exit), append(edge, head[exit]), true
	for len(stack) > 0 {
		top := len(stack) - 1
		if e := edge[top]; e >= 0 {
			edge[top] = link[e]
			if from := e / 2; !seen[from] {
				seen[from] = true
				stack, edge = append(stack, from), append(edge, head[from])
			}
			continue
		}
		order[stack[top]] = len(sequence)
		sequence = append(sequence, stack[top])
		stack, edge = stack[:top], edge[:top]
	}
	after := make([]int, len(code))
	for i := range after {
		after[i] = -1
	}
	after[exit] = exit
	for changed := true; changed; {
		changed = false
		for i := len(sequence) - 2; i >= 0; i-- {
			pc, found := sequence[i], -1
			a, b := next(pc)
			for _, to := range [2]int{a, b} {
				if to < 0 || order[to] < 0 || after[to] < 0 {
					continue
				}
				if found < 0 {
					found = to
					continue
				}
				x, y := to, found
				for x != y {
					for order[x] < order[y] {
						x = after[x]
					}
					for order[y] < order[x] {
						y = after[y]
					}
				}
				found = x
			}
			if after[pc] != found {
				after[pc], changed = found, true
			}
		}
	}
	for pc := range code {
		if code[pc].meet = int32(after[pc]); after[pc] < 0 {
			code[pc].meet = int32(exit)
		}
	}
}
