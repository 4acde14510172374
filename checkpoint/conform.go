package checkpoint

import (
	"slices"
	"strings"

	"dunlin/compute"
)

// conform gives tensors that another tool has written the names and the layout
// of those that are wanted, whose values do not matter. It adds or takes away
// what stands in front of all names when only a part of a model was saved, and
// turns the weights of a GPT-2 that are [out, in] into [in, out]. What it does
// not know stays as it is, for the model to refuse.
func conform(tensors, wanted []compute.Tensor) ([]compute.Tensor, error) {
	shapes := make(map[string][]int, len(wanted))
	for _, w := range wanted {
		shapes[w.Name] = w.Shape
	}
	out := make([]compute.Tensor, len(tensors))
	turned := false
	for i, t := range tensors {
		t.Name = conformName(t.Name, shapes)
		out[i] = t
		// The only product that is never square says how all of them lie.
		turned = turned || strings.HasSuffix(t.Name, ".c_attn.weight") && reversed(t.Shape, shapes[t.Name])
	}
	for i, t := range out {
		if turned && isProduct(t.Name) {
			var err error
			if out[i], err = transpose(t); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func conformName(name string, wanted map[string][]int) string {
	for _, wrapper := range []string{"_orig_mod.", "module."} { // of torch.compile and of data parallelism
		name = strings.TrimPrefix(name, wrapper)
	}
	for _, prefix := range []string{"", "transformer.", "model."} {
		if _, ok := wanted[prefix+name]; ok {
			return prefix + name
		}
	}
	return name
}

func reversed(shape, wanted []int) bool {
	return len(shape) == 2 && len(wanted) == 2 && !slices.Equal(shape, wanted) && shape[0] == wanted[1] && shape[1] == wanted[0]
}

// isProduct reports whether a name is that of a weight of GPT-2's that inputs
// are multiplied with.
func isProduct(name string) bool {
	for _, suffix := range []string{".c_attn.weight", ".c_proj.weight", ".c_fc.weight"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// isBuffer reports whether a name is that of a constant which older files hold
// beside the parameters: the causal mask and the rotary frequencies.
func isBuffer(name string) bool {
	for _, suffix := range []string{".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
