# The demo as a graph of jobs; launch/demo calls it. Every target is a file a finished job leaves behind, so an
# interrupted demo goes on where it stopped, and -j runs what is independent side by side.
#   D run directory   CD the codedance binary   SEEDS list   FULL 0|1
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:

job := launch/demo_job
one := --set device.threads=1
categories := rd_easy cnt_easy rd_hard rot_hard scn_hard cnt_hard
arms := fixed none published
scales := 1 2 4 8 16 32
ifeq ($(FULL),1)
eval_n := 2400
else
eval_n := 2400
endif

evals = $(foreach s,$(SEEDS),$(D)/eval/$(s)_sft.json $(D)/eval/$(s)_control.json \
	$(foreach a,$(arms),$(D)/eval/$(s)_$(a).json))
extra = $(D)/eval/0_sft_direct.json $(D)/eval/0_sft_tool.json $(D)/eval/0_fixed_shuffled.json \
	$(D)/eval/0_pair_before.json $(D)/eval/0_pair_after.json $(D)/log/leak.json \
	$(foreach k,$(scales),$(D)/eval/0_size$(k)_free.json $(D)/eval/0_size$(k)_direct.json $(D)/eval/0_size$(k)_tool.json)

all: $(evals) $(extra)

# ---- data: an ordinary dataset (PNG files and JSONL), then shards with what the model sees of each picture
$(D)/data/%/.done:
	@$(job) data/$* launch/demo_data $(CD) $(D) $*
	@touch $@
$(D)/tokenizer.json: $(D)/data/sft/.done
	@$(job) tokenizer $(CD) data tokenizer $(D)/data/sft/data.jsonl --merges 256 --out $@
