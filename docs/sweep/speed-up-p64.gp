# gnuplot -e "set terminal svg; set output 'plot.svg'" THIS
set encoding utf8
set border 3 lc rgb '#555555'
set tics nomirror out
set grid lc rgb '#e4e4e4' lt 1 lw 0.6
set errorbars 0.7
set label 900 '{/:Bold Speed-up over nodes, prompts of 64 tokens}' at screen 0.015,0.965 left enhanced font 'DejaVu Sans,15'
set label 901 'moe-0.9b on network namespaces of one machine at 1gbit; 1 rank per node; --weights q4 --threads 1; 16 decode steps, medians of 3 runs' at screen 0.015,0.922 left noenhanced font 'DejaVu Sans,9.5' tc rgb '#555555'
set label 902 'Intel(R) Xeon(R) Processor @ 2.50GHz, 2 cores, 25 GB; shoal 0.1.0 (591fc547116de2d2); 2026-11-27' at screen 0.015,0.891 left noenhanced font 'DejaVu Sans,9.5' tc rgb '#555555'
set label 990 '* nodes that share the cores of one machine, with more threads than it has cores' at screen 0.015,0.022 left noenhanced font 'DejaVu Sans,9' tc rgb '#555555'
set multiplot
set xrange [0.86:4.14]
set yrange [0:4.24]
set xtics ("1" 1, "2" 2, "4*" 4)
set xlabel 'nodes' noenhanced
set tmargin at screen 0.84
set bmargin at screen 0.15
set lmargin at screen 0.075
set rmargin at screen 0.370
set ylabel 'decode: times the speed of 1 node' noenhanced
unset key
$d0 << EOD
1 1
4 4
EOD
set label 200 'ideal' at first 2.5, first 2.712 right noenhanced tc rgb '#555555' font 'DejaVu Sans,10'
$d1 << EOD
1 1
2 0.673409
4 0.330148
EOD
set label 100 '1 sequence' at graph 1.02, first 0.330148 left noenhanced tc rgb '#0072B2' font 'DejaVu Sans,10'
$d2 << EOD
1 1
2 0.951045
4 0.769427
EOD
set label 101 '8 sequences' at graph 1.02, first 0.769427 left noenhanced tc rgb '#D55E00' font 'DejaVu Sans,10'
$d3 << EOD
1 1
2 1.04882
4 1.06333
EOD
set label 102 '32 sequences' at graph 1.02, first 1.06333 left noenhanced tc rgb '#009E73' font 'DejaVu Sans,10'
plot $d0 using 1:2 with lines lc rgb '#888888' lw 1 dt 3 notitle, \
     $d1 using 1:2 with linespoints lc rgb '#0072B2' pt 7 ps 1.1 lw 2 notitle, \
     $d2 using 1:2 with linespoints lc rgb '#D55E00' pt 5 ps 1.1 lw 2 notitle, \
     $d3 using 1:2 with linespoints lc rgb '#009E73' pt 9 ps 1.1 lw 2 notitle
set lmargin at screen 0.565
set rmargin at screen 0.860
set ylabel 'prefill: times the speed of 1 node' noenhanced
unset key
unset label 870
unset label 871
unset label 872
unset label 873
unset label 874
unset label 875
unset label 876
unset label 877
unset label 878
unset label 879
unset label 880
unset label 881
unset label 882
unset label 883
unset label 884
unset label 885
unset label 886
unset label 887
unset label 888
unset label 889
unset label 890
unset label 891
unset label 892
unset label 893
unset label 894
unset label 895
unset label 896
unset label 897
unset label 898
unset label 899
unset label 900
unset label 901
unset label 902
unset label 903
unset label 990
unset label 991
unset label 992
$d4 << EOD
1 1
4 4
EOD
set label 200 'ideal' at first 2.5, first 2.712 right noenhanced tc rgb '#555555' font 'DejaVu Sans,10'
$d5 << EOD
1 1
2 0.646654
4 0.534383
EOD
set label 100 '1 sequence' at graph 1.02, first 0.534383 left noenhanced tc rgb '#0072B2' font 'DejaVu Sans,10'
$d6 << EOD
1 1
2 0.986066
4 1.35761
EOD
set label 101 '8 sequences' at graph 1.02, first 1.43674 left noenhanced tc rgb '#D55E00' font 'DejaVu Sans,10'
$d7 << EOD
1 1
2 1.08347
4 1.28266
EOD
set label 102 '32 sequences' at graph 1.02, first 1.20354 left noenhanced tc rgb '#009E73' font 'DejaVu Sans,10'
plot $d4 using 1:2 with lines lc rgb '#888888' lw 1 dt 3 notitle, \
     $d5 using 1:2 with linespoints lc rgb '#0072B2' pt 7 ps 1.1 lw 2 notitle, \
     $d6 using 1:2 with linespoints lc rgb '#D55E00' pt 5 ps 1.1 lw 2 notitle, \
     $d7 using 1:2 with linespoints lc rgb '#009E73' pt 9 ps 1.1 lw 2 notitle
unset multiplot
